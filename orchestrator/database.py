"""The SQLite file: how it is opened, migrated, and written under the lease.

Rollback journal and `synchronous=FULL`: what was committed survives a power cut, and the
journal needs no shared memory, so the file may lie on a network filesystem (one host writes).
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from durable.faults import hit
from orchestrator.instance import DatabaseMark
from orchestrator.named_sql import migrations, split_script, statements

BUSY_SECONDS = 60.0


class NewerSchema(Exception):
    """The database was written by a newer `orch`."""


class LeaseLost(Exception):
    """Another writer took the lease while this one was paused; nothing was written."""


class Database:
    """One connection. Reads are free; writes happen inside `writing(lease_epoch)`."""

    def __init__(self, path: Path) -> None:
        """Open (and if needed create and migrate) the database at `path`.

        Raises `NewerSchema`; `sqlite3.DatabaseError` when the file is not a database.
        """
        self.path = path
        umask = os.umask(0o077)
        try:
            self._connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
        finally:
            os.umask(umask)
        self._connection.row_factory = sqlite3.Row
        for pragma in ("journal_mode=DELETE", "synchronous=FULL", "foreign_keys=ON"):
            self._connection.execute(f"PRAGMA {pragma}")
        self._migrate()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _version(self) -> int:
        return int(self._connection.execute("PRAGMA user_version").fetchone()[0])

    def _migrate(self) -> None:
        steps = migrations()
        newest = steps[-1][0]
        if self._version() == newest:
            return
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            version = self._version()  # again: another process may have migrated meanwhile
            if version > newest:
                raise NewerSchema(
                    f"{self.path} has schema {version}, this orch knows {newest}:"
                    " use the newer orch that wrote it (nothing was changed)"
                )
            for number, script in steps:
                if number > version:
                    for statement in split_script(script):
                        self._connection.execute(statement)
                    self._connection.execute(f"PRAGMA user_version={number}")
                    hit("migrate.step")
            hit("migrate.before_commit")
            self._connection.execute("COMMIT")
            hit("migrate.committed")
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise

    def rows(self, name: str, values: Mapping[str, Any] | None = None) -> list[sqlite3.Row]:
        """Run the named query and return its rows."""
        return self._connection.execute(statements()[name], values or {}).fetchall()

    def each(self, name: str, values: Mapping[str, Any] | None = None) -> Iterator[sqlite3.Row]:
        """Run the named query and yield its rows one by one.

        The file stays locked for writers until the last row: whoever reads must not dawdle.
        """
        yield from self._connection.execute(statements()[name], values or {})

    def one(self, name: str, values: Mapping[str, Any] | None = None) -> sqlite3.Row | None:
        """Run the named query and return its first row."""
        row: sqlite3.Row | None = self._connection.execute(
            statements()[name], values or {}
        ).fetchone()
        return row

    def run(self, name: str, values: Mapping[str, Any]) -> int:
        """Run the named statement inside `writing`; return how many rows it changed."""
        self._check_writing(name)
        return self._connection.execute(statements()[name], values).rowcount

    def insert(self, name: str, values: Mapping[str, Any]) -> int:
        """Run the named insertion inside `writing`; return the new row's id."""
        self._check_writing(name)
        return int(self._connection.execute(statements()[name], values).lastrowid or 0)

    def run_many(self, name: str, values: Sequence[Mapping[str, Any]]) -> int:
        """Run the named statement once per mapping, inside `writing`; return all changed rows."""
        self._check_writing(name)
        if not values:
            return 0
        return self._connection.executemany(statements()[name], values).rowcount

    def _check_writing(self, name: str) -> None:
        if not self._connection.in_transaction:
            raise RuntimeError(f"{name} outside of a transaction")

    @contextmanager
    def writing(self, lease_epoch: int) -> Iterator[None]:
        """Write atomically while this epoch holds the lease.

        Raises `LeaseLost` when a later holder took it; then nothing was written.
        """
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            self.check_lease(lease_epoch)
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def mark(self) -> DatabaseMark:
        """Return which state directory this database belongs to, and how far it is."""
        row = self._connection.execute(statements()["lease_mark"]).fetchone()
        return DatabaseMark(
            id=row["instance"], lease=row["epoch"], journal=row["journal"], live=bool(row["live"])
        )

    def check_lease(self, lease_epoch: int) -> None:
        """Raise `LeaseLost` when a later holder took the lease."""
        holder = self._connection.execute(statements()["lease_epoch"]).fetchone()[0]
        if holder != lease_epoch:
            raise LeaseLost(
                f"lease {lease_epoch} was taken over (now {holder}): this process was paused"
                " too long and must stop"
            )

    @contextmanager
    def unfenced(self) -> Iterator[None]:
        """Write atomically into a database that nobody else has: one that is being built."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def take_lease(self, instance: str | None = None) -> int:
        """Begin a new lease epoch and return it; the caller holds the writer's lock.

        `instance`: the id of the state directory, kept where the database has none yet.
        """
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            values = {"instance": instance}
            taken = self._connection.execute(statements()["lease_take"], values).fetchone()
            epoch = int(taken[0])
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
        return epoch
