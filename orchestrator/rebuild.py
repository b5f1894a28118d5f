"""`orch rebuild`: a database made anew from job directories, submissions and carried-out wishes.

The new one is built beside the old one and takes its name at once; the old one is kept. What may
still live at a scheduler becomes a submission whose outcome is not known, so the next tick looks
for its token and nothing is handed over twice. Killed anywhere, the command is given again.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from durable.clock import Clock
from durable.faults import hit
from durable.files import fsync_dir
from jobs.contract.paths import StateDir
from orchestrator.database import Database
from orchestrator.ingestion import Ingestion
from orchestrator.instance import Instance, place_of, publish_instance, read_instance
from orchestrator.lease import WriterLock
from orchestrator.rebuilding import Rebuilding
from orchestrator.remains import read_submissions
from orchestrator.store import Store
from orchestrator.wishes import replayed

_MAGIC = b"SQLite format 3\0"
_COMPANIONS = ("-journal", "-wal", "-shm")


@dataclass(frozen=True, slots=True, kw_only=True)
class RebuildReport:
    """What a rebuilt database has."""

    jobs: int
    states: dict[str, int]
    looked_for: int  # submissions that the next tick looks for at their scheduler
    events_kept: int  # of the old database's journal
    kept: Path | None  # where the old database is
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Old:
    """What could be had from the database that is there."""

    lease: int = 0
    instance: str | None = None
    events: tuple[tuple[object, ...], ...] = ()


def rebuild(state: StateDir, clock: Clock) -> RebuildReport:
    """Build the database anew and put it in the place of the old one.

    Raises `durable.locks.Locked` when somebody holds the lease, `StateRefused`, `NewerSchema`.
    """
    lock = WriterLock(state, verb="rebuild")
    lock.acquire()
    try:
        return _rebuild(state, clock)
    finally:
        lock.release()


def _rebuild(state: StateDir, clock: Clock) -> RebuildReport:
    known = read_instance(state)
    submissions, unreadable = read_submissions(state)
    old = _fence_old(state.database)
    hit("rebuild.old_fenced")
    leases = [past.order[0] for past in submissions]
    epoch = max([old.lease, known.lease if known else 0, *leases]) + 1
    identity = known.id if known else old.instance or secrets.token_hex(8)
    new = state.database.with_name(state.database.name + ".rebuilding")
    _discard(new)
    database = Database(new)
    store = Store(database, clock)
    with database.unfenced():
        database.run("rebuild_lease", {"epoch": epoch, "instance": identity})
        floor = _keep_events(database, old)
        floor = max(floor, known.journal if known else 0)
        _first_event(database, clock, floor + 1, epoch)
    lines = replayed(state, Ingestion(store, state), submissions, lease_epoch=epoch)
    hit("rebuild.wishes_replayed")
    rebuilding = Rebuilding(store, state, clock, submissions)
    with store.writing(epoch):
        rebuilding.run()
        hit("rebuild.before_commit")
    journal = database.mark().journal
    states = {row["state"]: row["jobs"] for row in database.rows("rebuild_counts")}
    database.close()
    hit("rebuild.built")
    kept = _swap(state.database, new)
    here = known.place if known else place_of(state)
    publish_instance(
        state, Instance(id=identity, lease=epoch, journal=journal, place=here), durable=True
    )
    hit("rebuild.recorded")
    return RebuildReport(
        jobs=sum(states.values()),
        states=states,
        looked_for=rebuilding.looked_for,
        events_kept=len(old.events),
        kept=kept,
        problems=(*unreadable, *lines, *rebuilding.problems),
    )


def _fence_old(path: Path) -> _Old:
    """Raise the old database's lease epoch, so that a paused holder cannot write; read its journal.

    A database that cannot be read, or is none, has nothing to say. Raises `NewerSchema`.
    """
    try:
        with path.open("rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                return _Old()  # SQLite would throw a journal beside it away
    except FileNotFoundError:
        return _Old()
    try:
        database = Database(path)
    except sqlite3.Error:
        return _Old()
    try:
        lease = database.take_lease()
        old = _Old(lease=lease, instance=database.mark().id)
        with suppress(sqlite3.Error):
            events = tuple(tuple(row) for row in database.rows("rebuild_journal"))
            old = replace(old, events=events)
        return old
    except sqlite3.Error:
        return _Old()
    finally:
        database.close()


def _keep_events(database: Database, old: _Old) -> int:
    """Copy the old journal; return its last id."""
    names = ("id", "at", "lease", "job", "token", "kind", "cause", "decision")
    rows = [dict(zip(names, row, strict=True)) for row in old.events]
    database.run_many("rebuild_event", rows)
    return max((int(str(row["id"])) for row in rows), default=0)


def _first_event(database: Database, clock: Clock, identity: int, epoch: int) -> None:
    """Begin the journal above all that instance.json has seen of the old one."""
    words = {
        "kind": "rebuilt",
        "cause": "asked for by a person",
        "decision": "jobs, attempts and results as their directories say",
    }
    values = {"id": identity, "at": clock.wall(), "lease": epoch, "job": None, "token": None}
    database.run("rebuild_event", {**values, **words})


def _swap(path: Path, new: Path) -> Path | None:
    """Give the new database its name; return where the old one is kept.

    There is a database at every moment. A journal of the old one must not be played into the new
    one, so it goes aside first.
    """
    kept = _free_name(path) if path.exists() else None
    if kept is not None:
        os.link(path, kept)
    for suffix in _COMPANIONS:
        companion = path.with_name(path.name + suffix)
        if companion.exists():
            aside = kept or _free_name(path)
            companion.rename(aside.with_name(aside.name + suffix))
    hit("rebuild.old_kept")
    new.replace(path)
    hit("rebuild.swapped")
    fsync_dir(path.parent)
    return kept


def _free_name(path: Path) -> Path:
    number = 1
    while any(_exists(path, number)):
        number += 1
    return path.with_name(f"{path.name}.kept-{number}")


def _exists(path: Path, number: int) -> Iterable[bool]:
    return (
        path.with_name(f"{path.name}.kept-{number}{suffix}").exists()
        for suffix in ("", *_COMPANIONS)
    )


def _discard(new: Path) -> None:
    """Remove what a killed rebuild has begun; it was never anybody's database."""
    for suffix in ("", *_COMPANIONS):
        new.with_name(new.name + suffix).unlink(missing_ok=True)
