"""A job's attempts as they were: places, times, steps, causes, and what followed."""

from __future__ import annotations

from jobs.contract.records import Outcome
from jobs.states import JobState
from orchestrator.inquiry import Inquiry
from orchestrator.schedulers.base import TaskState
from tests.unit.orchestrator.world import SPECS, World

JOB = SPECS[0]


def test_each_attempt_keeps_where_and_when_it_ran_and_what_followed(world: World) -> None:
    """Two attempts, the first lost three steps; the second runs."""
    world.submit([JOB])
    (key,) = world.task_keys()
    world.begin(key, JOB, step=7, committed=4, started_at=50.0)
    world.tick(1.0)
    world.fake.end(key, TaskState.NODE_FAIL)
    world.tick(1.0)
    world.tick(400.0)
    second = world.task_keys()[-1]
    world.begin(second, JOB, epoch=2, step=8, committed=4, resumed=(1, 4))
    world.tick(1.0)

    row, attempts = Inquiry(world.home).timeline(JOB.id)

    assert row.state is JobState.RUNNING
    first, running = attempts
    assert (first.epoch, first.end_class, first.nodes) == (1, "node", "fake1")
    assert (first.started_at, first.scheduler, first.scheduler_id) == (50.0, "fake", "1")
    assert (first.first_step, first.last_step, first.committed_step) == (0, 7, 4)
    assert (first.steps_gained, first.steps_lost) == (4, 3)
    assert first.decision.startswith("RETRYING: ")
    assert first.queued_at is not None
    assert first.ended_at is not None
    assert (running.epoch, running.ended_at, running.first_step) == (2, None, 4)
    assert running.steps_lost == 0


def test_a_launch_that_never_became_an_attempt_has_its_row(world: World) -> None:
    """It cost time, and its cause is what a person looks for."""
    world.submit([JOB])
    (key,) = world.task_keys()
    world.fake.start(key)
    world.tick(1.0)
    world.fake.end(key, TaskState.FAILED, exit_code=127)
    world.tick(1.0)

    _, attempts = Inquiry(world.home).timeline(JOB.id)

    assert [(a.epoch, a.end_class, a.started_at) for a in attempts] == [(None, "launch", None)]


def test_the_time_of_an_exit_record_is_the_end(world: World) -> None:
    """Not the moment in which somebody looked."""
    world.submit([JOB])
    (key,) = world.task_keys()
    world.begin(key, JOB)
    world.tick(1.0)
    world.fail(JOB, Outcome.EXCEPTION, written_at=1234.5)
    world.fake.end(key, TaskState.FAILED, exit_code=1)
    world.tick(500.0)

    _, (attempt,) = Inquiry(world.home).timeline(JOB.id)

    assert attempt.ended_at == 1234.5
    assert attempt.error_type == "KeyError"
