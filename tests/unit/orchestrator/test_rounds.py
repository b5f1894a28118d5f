"""Of thousands of running attempts few are read at a tick, and nothing that matters is missed."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.contract.records import Outcome, ProgressRecord
from jobs.states import JobState
from orchestrator import rounds
from orchestrator.schedulers.base import TaskState
from tests.contract.stub import make_spec
from tests.unit.orchestrator.world import World

SPECS = [make_spec(seed, steps=10) for seed in range(40, 48)]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """Eight running jobs, of which one is read at each tick."""
    monkeypatch.setattr(rounds, "READS_A_TICK", 1)
    made = World(tmp_path)
    made.submit(SPECS)
    made.tick()
    by_job = dict(zip([spec.id for spec in SPECS], made.task_keys(), strict=True))
    for spec in SPECS:
        made.begin(by_job[spec.id], spec)
    made.tick()
    made.tick()
    return made


def beat(world: World, number: int, sequence: int) -> None:
    """Be the worker of a job: a new heartbeat file replaces the old one."""
    path = world.service.state.job(SPECS[number].id).attempt(1).progress
    fresh = path.with_name("new")
    record = ProgressRecord(
        epoch=1,
        sequence=sequence,
        phase="training",
        step=sequence,
        total_steps=10,
        written_at=world.clock.wall(),
    )
    fresh.write_bytes(record.to_json())
    fresh.rename(path)


def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list to which every reading of a directory adds the job."""
    seen: list[str] = []
    real = rounds.read_evidence

    def read(directory, spec, **how):  # type: ignore[no-untyped-def]
        seen.append(spec.id)
        return real(directory, spec, **how)

    monkeypatch.setattr(rounds, "read_evidence", read)
    return seen


def test_each_directory_has_its_turn(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """In as many ticks as there are jobs each is read once; its progress then reaches the store."""
    seen = reads(monkeypatch)

    for number in range(len(SPECS)):
        beat(world, number, 7)
    for _ in SPECS:
        world.tick(1.0)

    assert sorted(seen) == sorted(spec.id for spec in SPECS)
    assert {row.step for row in world.service.rows()} == {7}


def test_a_heartbeat_that_was_not_read_is_a_sign_of_life(world: World) -> None:
    """An attempt is stalled only when its heartbeat stands still, whoever's turn it is."""
    for sequence in range(2, 30):
        beat(world, 0, sequence)
        world.tick(30.0)

    stalled = {event.job for event in world.service.events() if "no heartbeat" in event.cause}
    assert stalled == {spec.id for spec in SPECS[1:]}


def test_an_end_is_read_at_once(world: World) -> None:
    """What the scheduler says about a task puts its directory first."""
    key = world.task_keys()[3]
    world.fail(SPECS[3], Outcome.EXCEPTION)
    world.fake.end(key, TaskState.FAILED, exit_code=1)

    world.tick(1.0)

    assert world.state(SPECS[3]) is JobState.FAILED


def test_the_store_is_not_written_for_heartbeats_alone(world: World) -> None:
    """A steady matrix costs no transaction, until the store's time would be too old."""
    changes = world.service.store.database._connection
    before = changes.total_changes
    for sequence in range(2, 5):
        for number in range(len(SPECS)):
            beat(world, number, sequence)
        world.tick(1.0)

    # the jobs whose turn it was, and nobody else (the lease takes one more each time)
    assert changes.total_changes - before <= 2 * 3 * 2
