"""What the database keeps of an end: enough to group, to blame and to judge."""

from __future__ import annotations

from jobs.contract.records import Outcome
from orchestrator.schedulers.base import TaskState
from tests.unit.orchestrator.world import SPECS, World


def test_equal_failures_are_one_group(world: World) -> None:
    """Type, message and digest of the error stand in the row of the end, and where it ran."""
    world.submit()
    for key, spec, digest in zip(world.task_keys(), SPECS, ("same", "same", "other"), strict=True):
        world.begin(key, spec)
        world.tick()
        world.fail(spec, Outcome.EXCEPTION, digest=digest)
        world.fake.end(key, TaskState.FAILED, exit_code=1)
    world.tick()

    rows = [row for s in SPECS for row in world.service.store.database.rows("ends_of", _job(s.id))]

    assert [row["error_digest"] for row in rows] == ["same", "same", "other"]
    assert {(row["error_type"], row["error_message"]) for row in rows} == {("KeyError", "'label'")}
    assert {row["nodes"] for row in rows} == {"fake1"}


def test_an_end_without_an_error_has_none(world: World) -> None:
    """A preempted attempt is in no group of failures."""
    world.submit(SPECS[:1])
    (key,) = world.task_keys()
    world.begin(key, SPECS[0])
    world.tick()
    world.fake.preempt(key, requeue=False)
    world.tick()

    (row,) = world.service.store.database.rows("ends_of", _job(SPECS[0].id))

    assert (row["error_digest"], row["error_type"], row["error_message"]) == (None, None, None)


def _job(job: str) -> dict[str, str]:
    return {"job": job}
