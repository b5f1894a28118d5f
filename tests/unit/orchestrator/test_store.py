"""The database refuses what must not be, whoever asks for it."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

import pytest

from durable.clock import FakeClock
from jobs.states import IllegalTransition, JobState
from orchestrator.database import Database, LeaseLost, NewerSchema
from orchestrator.named_sql import migrations, split_script, statements
from orchestrator.store import Store
from tests.contract.stub import make_spec


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store with one matrix of two jobs, under lease 1."""
    database = Database(tmp_path / "orch.sqlite3")
    database.take_lease()
    store = Store(database, FakeClock())
    with store.writing(1):
        store.add_matrix(digest="d", name="m", path="m.yaml", cells=2)
        store.add_jobs([make_spec(0), make_spec(1)], matrix="d", priorities=[0, 0])
    return store


def raw(store: Store) -> sqlite3.Connection:
    """Return a second connection to the same file."""
    connection = sqlite3.connect(store.database.path)
    connection.execute("PRAGMA foreign_keys=ON")
    return connection


def test_it_is_durable_and_private(store: Store) -> None:
    """synchronous=FULL, rollback journal, readable by its owner alone."""
    connection = store.database._connection

    assert connection.execute("PRAGMA synchronous").fetchone()[0] == 2
    assert connection.execute("PRAGMA journal_mode").fetchone()[0] == "delete"
    assert connection.execute("PRAGMA foreign_keys").fetchone()[0] == 1
    assert store.database.path.stat().st_mode & 0o077 == 0


def test_a_job_has_at_most_one_live_task(store: Store) -> None:
    """P2, the scheduler's half, as a constraint."""
    job = make_spec(0).id
    with store.writing(1):
        store.add_submission("t" * 16, scheduler="fake", jobs=[job])

    with pytest.raises(sqlite3.IntegrityError), store.writing(1):
        store.add_submission("u" * 16, scheduler="fake", jobs=[job])
    assert [row["token"] for row in store.unsettled()] == ["t" * 16]

    with store.writing(1):
        store.close_tasks_of("t" * 16)
        store.add_submission("v" * 16, scheduler="fake", jobs=[job])
    assert len(store.unsettled()) == 2


ODD_ID = """INSERT INTO jobs (id, name, spec, state, state_since, total_steps)
    VALUES ('../../etc/passwd', 'n', '{}', 'NEW', 0, 1)"""
ACCEPTED_WITHOUT_ID = """INSERT INTO submissions (token, scheduler, state, created_at)
    VALUES ('0123456789abcdef', 'fake', 'accepted', 0)"""


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE events SET cause = 'other'",
        "DELETE FROM events",
        "UPDATE jobs SET state = 'DONE'",
        "UPDATE jobs SET step = 'many'",
        "INSERT INTO tasks (token, idx, job) VALUES ('nowhere', 0, 'nobody')",
        ODD_ID,
        ACCEPTED_WITHOUT_ID,
    ],
)
def test_the_schema_refuses(store: Store, statement: str) -> None:
    """Events are append-only; states, types, ids and references are checked by the database."""
    with pytest.raises(sqlite3.IntegrityError):
        raw(store).execute(statement)


def test_every_change_of_state_is_legal_and_has_its_event(store: Store) -> None:
    """The event carries cause and decision."""
    job = make_spec(0).id
    with store.writing(1):
        store.move(job, JobState.CANCELLED, reason="a person", cause="orch cancel")

    with pytest.raises(IllegalTransition), store.writing(1):
        store.move(job, JobState.RUNNING, reason="", cause="")

    events = store.database.rows("events_of", {"job": job})  # also what `Service.events` shows
    assert [(e["kind"], e["cause"]) for e in events] == [
        ("new", "matrix d"),
        ("state", "orch cancel"),
    ]
    assert "NEW -> CANCELLED" in events[-1]["decision"]


def test_a_holder_that_was_overtaken_writes_nothing(store: Store) -> None:
    """The lease epoch fences a paused writer."""
    other = Database(store.database.path)
    assert other.take_lease() == 2

    with pytest.raises(LeaseLost), store.writing(1):
        store.move(make_spec(0).id, JobState.CANCELLED, reason="", cause="")

    assert store.job_state(make_spec(0).id) is JobState.NEW


def test_writing_is_all_or_nothing(store: Store) -> None:
    """An error in the middle takes everything back."""
    job = make_spec(0).id

    def cancel_and_fail() -> None:
        with store.writing(1):
            store.move(job, JobState.CANCELLED, reason="", cause="")
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        cancel_and_fail()

    assert store.job_state(make_spec(0).id) is JobState.NEW


def test_writing_outside_of_a_transaction_is_a_mistake(store: Store) -> None:
    """No statement may slip past the lease."""
    with pytest.raises(RuntimeError):
        store.close_task(1)


def test_a_newer_schema_is_refused_naming_both_versions(tmp_path: Path) -> None:
    """And nothing is changed."""
    path = tmp_path / "orch.sqlite3"
    Database(path).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version=99")
    connection.commit()
    before = path.read_bytes()

    with pytest.raises(NewerSchema, match=rf"99.*{migrations()[-1][0]}"):
        Database(path)

    assert path.read_bytes() == before


def test_a_migration_that_dies_leaves_the_old_schema(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Migrations are one transaction: the next opening starts from the beginning."""
    path = tmp_path / "orch.sqlite3"
    broken = [(1, migrations()[0][1] + "\nINSERT INTO nowhere VALUES (1);\n")]
    monkeypatch.setattr("orchestrator.database.migrations", lambda: broken)
    with pytest.raises(sqlite3.OperationalError):
        Database(path)
    monkeypatch.undo()

    database = Database(path)

    assert database.one("lease_epoch") is not None


def test_migrations_are_numbered_without_gaps_and_split_into_statements() -> None:
    """`user_version` counts them; triggers stay whole."""
    numbers = [number for number, _ in migrations()]
    parts = list(split_script(migrations()[0][1]))

    assert numbers == list(range(1, len(numbers) + 1))
    assert all(sqlite3.complete_statement(part) for part in parts)
    assert sum("CREATE TRIGGER" in part for part in parts) == 2


def test_every_named_statement_is_valid_and_used(store: Store) -> None:
    """SQLite can prepare each, and each name occurs in the code."""
    folder = Path(__file__).parent.parent.parent.parent / "orchestrator"
    code = "".join(path.read_text() for path in folder.rglob("*.py"))
    for name, text in statements().items():
        raw(store).execute(f"EXPLAIN {text}", dict.fromkeys(_parameters(text)))
        assert f'"{name}"' in code, name


def _parameters(text: str) -> set[str]:
    return set(re.findall(r":([a-z_]+)", text))
