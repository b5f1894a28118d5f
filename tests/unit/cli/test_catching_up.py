"""With nobody watching, a reading verb looks for itself before it tells."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from durable.locks import Locked
from orchestrator.cli.exits import Exit, Stop
from orchestrator.database import Database
from orchestrator.observation import publish_seen
from orchestrator.rows import TickReport
from orchestrator.schedulers.base import Observation
from tests.unit.cli.conftest import Outcome
from tests.unit.cli.state import write_beat, write_state
from tests.unit.cli.test_verbs import watching

Orch = Callable[..., Outcome]


class Ticks:
    """Stands for the acting service: counts ticks, and may fail like one."""

    def __init__(self, *, unreachable: str | None = None, locked: bool = False) -> None:
        self.count = 0
        self._unreachable = unreachable
        self._locked = locked

    def tick(self) -> TickReport:
        self.count += 1
        if self._locked:
            raise Locked(Path("writer.lock"), {"pid": 1, "host": "there"})
        return TickReport(happenings=(), open_jobs=1, unreachable=self._unreachable)

    def close(self) -> None:
        pass


@pytest.fixture
def ticks(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ticks]:
    def make(**how: object) -> Ticks:
        service = Ticks(**how)
        monkeypatch.setattr("orchestrator.cli.catching_up.open_acting", lambda home: service)
        return service

    return make


@pytest.mark.parametrize("verb", ["status", "results"])
@pytest.mark.parametrize(
    ("states", "age", "expected"),
    [
        ({1: "RUNNING"}, 31.0, 1),
        ({1: "RUNNING"}, 5.0, 0),  # an observation younger than 30 s is used again
        ({1: "COMPLETED", 2: "FAILED"}, 3600.0, 0),  # nothing can have changed
    ],
)
def test_one_tick_when_the_store_is_old_and_jobs_are_open(
    orch: Orch,
    home: Path,
    ticks: Callable[..., Ticks],
    verb: str,
    states: Mapping[int, str],
    age: float,
    expected: int,
) -> None:
    """On Slurm jobs finish with no watcher alive; status afterwards must tell the truth."""
    write_state(home, states)
    write_beat(home, age_seconds=age)
    service = ticks()

    assert orch(verb).code == Exit.OK
    assert service.count == expected


def test_a_living_watcher_is_left_to_its_work(
    orch: Orch, home: Path, ticks: Callable[..., Ticks]
) -> None:
    """The watcher ticks; five terminals must not multiply the load."""
    state = write_state(home, {1: "RUNNING"})
    write_beat(home, age_seconds=3600.0)
    service = ticks()

    with watching(state):
        assert orch("status").code == Exit.OK

    assert service.count == 0


@pytest.mark.parametrize("how", [{"unreachable": "squeue timed out"}, {"locked": True}])
def test_what_stands_in_the_way_is_no_failure_of_status(
    orch: Orch, home: Path, ticks: Callable[..., Ticks], how: Mapping[str, object]
) -> None:
    """Status tells what the store has, and says when that may be behind."""
    write_state(home, {1: "RUNNING"})
    write_beat(home, age_seconds=3600.0)
    ticks(**how)

    shown = orch("status")

    assert shown.code == Exit.OK
    assert "quickstart-0001" in shown.out
    assert ("not up to date" in shown.err) == ("unreachable" in how)


def test_no_backend_is_no_failure_of_status(
    orch: Orch, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slurm's commands may be gone for a while; the store is still there to be read."""

    def gone(home: Path) -> None:
        raise Stop(Exit.UNREACHABLE, "no sbatch here")

    monkeypatch.setattr("orchestrator.cli.catching_up.open_acting", gone)
    write_state(home, {1: "RUNNING"})
    write_beat(home, age_seconds=3600.0)

    shown = orch("status")

    assert shown.code == Exit.OK
    assert "no sbatch here" in shown.err


def test_a_scheduler_that_does_not_answer_keeps_nobody_from_the_store(
    orch: Orch, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the store knows is shown while the scheduler is being asked; then what changed."""
    state = write_state(home, {1: "RUNNING"})
    write_beat(home, age_seconds=3600.0)
    monkeypatch.setattr("orchestrator.cli.listing.PATIENT_SECONDS", 0.0)
    shown = threading.Event()

    class Slow(Ticks):
        def tick(self) -> TickReport:
            assert shown.wait(60)
            database = Database(state.database)
            with database.writing(database.take_lease()):
                database._connection.execute("UPDATE jobs SET state = 'COMPLETED'")
            database.close()
            return super().tick()

    def tell(line: str, style: str | None = None) -> None:
        lines.append(line)
        if "being asked" in line:
            shown.set()

    lines: list[str] = []
    monkeypatch.setattr("orchestrator.cli.catching_up.open_acting", lambda home: Slow())
    monkeypatch.setattr("orchestrator.cli.listing.streams.say", tell)

    outcome = orch("status")

    assert outcome.code == Exit.OK
    before, after = outcome.out.index("RUNNING"), outcome.out.index("COMPLETED")
    assert before < after


def test_the_document_waits_and_says_when_the_scheduler_was_seen(
    orch: Orch, home: Path, ticks: Callable[..., Ticks]
) -> None:
    """A script gets one answer; `observation` tells how old it is."""
    state = write_state(home, {1: "RUNNING"})
    publish_seen(state, {"slurm": Observation(taken_at=time.time() - 12, answers={})})
    ticks()

    document = json.loads(orch("status", "--json").out)

    assert document["observation"]["scheduler"] == "slurm"
    assert 12 <= document["observation"]["age_seconds"] < 60
    assert document["observation"]["unreachable"] is None


def test_status_shows_how_old_the_observation_is(
    orch: Orch, home: Path, ticks: Callable[..., Ticks]
) -> None:
    """A store that is behind must not look like the truth."""
    state = write_state(home, {1: "RUNNING"})
    publish_seen(state, {"slurm": Observation(taken_at=time.time() - 12, answers={})})
    assert "slurm: seen 12 s ago" in orch("status").out.replace("13 s", "12 s")

    down = Observation(taken_at=time.time(), answers={}, unreachable="no answer within 30 s")
    publish_seen(state, {"slurm": down})
    assert "slurm: cannot be asked (no answer within 30 s); seen 1" in orch("status").out
