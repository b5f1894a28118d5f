"""The state directory: owner, mode, database, watcher."""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from pathlib import Path

from jobs.contract.paths import StateDir
from orchestrator.database import Database
from orchestrator.doctor.check import Check, failed, passed, warned
from orchestrator.doctor.filesystem import (
    clock_check,
    lock_check,
    nearest_directory,
    space_check,
    type_check,
)
from orchestrator.instance import StateRefused, checked, read_instance
from orchestrator.views.status import is_open, watcher_line

_NAME = "state directory"


def state_checks(home: Path) -> list[Check]:
    """Return all checks of the state directory; nothing is created but probes that vanish."""
    directory = nearest_directory(home)
    checks = [directory_check(home, directory)]
    if checks[0].ok:
        checks += [lock_check(directory), clock_check(directory)]
    checks += [type_check(directory), space_check(directory)]
    if StateDir(home).database.exists():
        checks.append(database_check(StateDir(home).database))
        if checks[-1].ok:
            checks += [instance_check(home), watcher_check(home), *node_checks(home)]
    elif read_instance(StateDir(home)) is not None:
        missing = f"{StateDir(home).database} is missing, its jobs are there"
        checks.append(failed("database", missing, "orch rebuild"))
    return checks


def directory_check(home: Path, directory: Path) -> Check:
    """Return whether the directory is ours, private and writable; `directory` is what exists."""
    if home.exists() and not home.is_dir():
        return failed(_NAME, f"{home} is a file", "set ORCH_HOME to a directory")
    if not os.access(directory, os.W_OK | os.X_OK):
        return failed(
            _NAME, f"{directory} is not writable", "set ORCH_HOME to a directory of yours"
        )
    if directory != home:
        return passed(_NAME, f"{home} does not exist yet; orch submit creates it")
    status = home.stat()
    if status.st_uid != os.geteuid():
        return failed(
            _NAME,
            f"{home} belongs to uid {status.st_uid}, you are {os.geteuid()}",
            "set ORCH_HOME to a directory of yours",
        )
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o077:
        return failed(
            _NAME, f"{home} has mode {mode:04o}: others can read or write it", f"chmod 700 {home}"
        )
    return passed(_NAME, f"{home}, mode {mode:04o}, yours")


def node_checks(home: Path) -> list[Check]:
    """Return a warning for each node that jobs keep off."""
    from orchestrator.reader import Reader
    from orchestrator.views.nodes import exclusion_line

    now = time.time()
    return [
        warned("nodes", exclusion_line(row, now=now), f"orch nodes --forgive {row.node}")
        for row in Reader(home).exclusions()
    ]


def database_check(database: Path) -> Check:
    """Return whether SQLite finds the database whole and its schema known."""
    from orchestrator.named_sql import migrations

    newest = migrations()[-1][0]
    restore = "orch rebuild"
    try:
        uri = f"{database.absolute().as_uri()}?mode=ro"
        connection = sqlite3.connect(uri, uri=True, timeout=5.0)
        try:
            found = [str(row[0]) for row in connection.execute("PRAGMA quick_check(3)")]
            version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        finally:
            connection.close()
    except sqlite3.Error as error:
        return failed("database", f"{database}: {error}", restore)
    if found != ["ok"]:
        return failed("database", f"{database}: {'; '.join(found)}", restore)
    if version > newest:
        return failed(
            "database",
            f"schema {version}, this orch knows {newest}",
            "use the newer orch that wrote it",
        )
    size = database.stat().st_size / (1 << 20)
    return passed("database", f"whole, schema {version}, {size:.1f} MiB")


def instance_check(home: Path) -> Check:
    """Return whether the database is this directory's newest, and the place the same."""
    state = StateDir(home.absolute())
    database = Database(state.database)
    try:
        instance, moved_from = checked(state, database.mark(), new_id="")
    except StateRefused as refused:
        return failed("instance", str(refused), refused.fix)
    finally:
        database.close()
    if moved_from is not None:
        return passed("instance", f"moved from {moved_from}; no task is live, so it is adopted")
    return passed("instance", f"lease {instance.lease}, event {instance.journal}")


def watcher_check(home: Path) -> Check:
    """Return whether the open jobs have a watcher."""
    from orchestrator.reader import Reader

    service = Reader(home)
    watcher = service.watcher()
    open_jobs = sum(map(is_open, service.rows(None)))
    line, _ = watcher_line(watcher, open_jobs=open_jobs, now=time.time())
    detail = line.removeprefix("watcher: ")
    comes = watcher.job is not None and watcher.job.live
    if open_jobs and not watcher.alive and not comes:
        return warned("watcher", detail.partition(". ")[0], "orch watch")
    return passed("watcher", detail)
