"""A job's attempts as they were: places, times, steps, causes, and what followed."""

from __future__ import annotations

from jobs.contract.records import Outcome
from jobs.states import JobState
from orchestrator.inquiry import Inquiry
from orchestrator.ledger import job_ledger
from orchestrator.ledgers import read_ledgers
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


def test_ledgers_of_many_jobs_are_those_of_each_by_itself(world: World) -> None:
    """Read in a few queries: a job that failed and was retried, one that waits, one that runs."""
    failed, lost, waiting = SPECS
    world.submit(list(SPECS))
    first, second, _ = world.task_keys()
    world.begin(first, failed, started_at=50.0)
    world.begin(second, lost, started_at=60.0)
    world.tick(1.0)
    for spec, key in ((failed, first), (lost, second)):
        world.fail(spec, Outcome.EXCEPTION, written_at=100.0)
        world.fake.end(key, TaskState.FAILED, exit_code=1)
    world.tick(1.0)
    assert world.state(failed) is JobState.FAILED
    world.clock.advance(5000.0)  # stopped: in no account
    world.service.again(failed.id)
    again = world.task_keys()[-1]
    world.begin(again, failed, epoch=2, started_at=world.clock.wall())
    world.tick(5.0)

    inquiry = Inquiry(world.home)
    now = world.clock.wall()
    alone = {spec.id: job_ledger(inquiry.timeline(spec.id)[1], now=now) for spec in (failed, lost)}

    database, state = world.service.store.database, world.service.state
    ledgers = dict(read_ledgers(database, state, None, running=[failed.id], now=now))
    assert ledgers == alone
    assert len(ledgers[failed.id].attempts) == 2
    assert ledgers[failed.id].attempts[1].queued < 3600
    assert waiting.id not in ledgers
    some = dict(read_ledgers(database, state, [lost.id], running=[failed.id], now=now))
    assert some == {lost.id: alone[lost.id]}
