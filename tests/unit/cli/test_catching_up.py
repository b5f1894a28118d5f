"""With nobody watching, a reading verb looks for itself before it tells."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from durable.locks import Locked
from orchestrator.cli.exits import Exit, Stop
from orchestrator.rows import TickReport
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
