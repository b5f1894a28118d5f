"""Older databases open and are brought up to date at once or not at all; newer ones are refused."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.database import Database, NewerSchema
from orchestrator.named_sql import migrations

FIXTURE = Path(__file__).parents[2] / "fixtures" / "schema-0001.sql"
NEWEST = migrations()[-1][0]
TABLES = ("jobs", "matrices", "matrix_jobs", "submissions", "tasks", "ends", "results", "events")


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A database of schema 1 with a job of each kind of row."""
    path = tmp_path / "orch.sqlite3"
    connection = sqlite3.connect(path)
    connection.executescript(FIXTURE.read_text())
    connection.close()
    return path


def rows(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """Return the columns of schema 1 of all tables."""
    connection = sqlite3.connect(path)
    template = sqlite3.connect(":memory:")
    template.executescript(FIXTURE.read_text())
    found = {}
    for table in TABLES:
        columns = ", ".join(row[1] for row in template.execute(f"PRAGMA table_info({table})"))
        found[table] = connection.execute(f"SELECT {columns} FROM {table}").fetchall()
    connection.close()
    return found


def version(path: Path) -> int:
    """Return the schema that the file says it has."""
    return int(sqlite3.connect(path).execute("PRAGMA user_version").fetchone()[0])


def test_the_first_schema_opens_and_keeps_every_row(old: Path) -> None:
    """Users upgrade with jobs under way."""
    before = rows(old)
    assert all(before.values())

    database = Database(old)

    assert version(old) == NEWEST
    assert rows(old) == before
    assert database.mark().lease == 4
    assert database.mark().live
    assert len(database.rows("live_tasks")) == 1
    assert [str(row[0]) for row in database._connection.execute("PRAGMA foreign_key_check")] == []


@pytest.mark.parametrize("nth", range(1, NEWEST))
@pytest.mark.parametrize("point", ["migrate.step", "migrate.before_commit", "migrate.committed"])
def test_a_migration_killed_anywhere_is_done_whole_by_the_next(
    old: Path, point: str, nth: int
) -> None:
    """Before the commit the file is the old one, after it the new one."""
    before = rows(old)
    code = "import sys; from orchestrator.database import Database; from pathlib import Path;"
    code += "Database(Path(sys.argv[1]))"
    killed = subprocess.run(
        [sys.executable, "-c", code, str(old)],
        env={"ORCH_FAULT": f"{point}:kill@{nth}", "PYTHONPATH": str(Path(__file__).parents[3])},
        timeout=60,
    )
    once = nth == 1 or point == "migrate.step"
    assert killed.returncode == (-9 if once else 0)
    assert version(old) == (NEWEST if point == "migrate.committed" or not once else 1)

    Database(old).close()

    assert version(old) == NEWEST
    assert rows(old) == before


def test_a_failing_disk_leaves_the_old_schema(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error is rolled back as a kill is."""

    def full(point: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("orchestrator.database.hit", full)
    with pytest.raises(OSError, match="No space"):
        Database(old)

    assert version(old) == 1


def test_a_newer_schema_is_refused_with_both_versions_and_untouched(old: Path) -> None:
    """An older orch must not write what it does not understand."""
    connection = sqlite3.connect(old)
    connection.execute(f"PRAGMA user_version={NEWEST + 1}")
    connection.close()
    before = old.read_bytes()

    with pytest.raises(NewerSchema, match=f"schema {NEWEST + 1}, this orch knows {NEWEST}"):
        Database(old)

    assert old.read_bytes() == before
