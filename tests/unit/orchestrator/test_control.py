"""Holding, releasing and retrying: what a person asks for happens once, and nothing is lost."""

from __future__ import annotations

import pytest

from jobs.contract.records import ControlRecord, Outcome, StopCause, read_record
from jobs.states import JobState
from orchestrator.facts import EndClass
from orchestrator.reader import Reader
from orchestrator.schedulers.base import TaskState
from tests.contract.stub import make_spec
from tests.unit.orchestrator.world import SPECS, World

JOB = SPECS[0]


@pytest.fixture
def one(world: World) -> World:
    """Return a world with one submitted job."""
    world.submit([JOB])
    return world


def states(world: World) -> list[TaskState]:
    """Return the states of all tasks that the cluster ever had."""
    return [task.state for _, task in world.fake.tasks()]


def test_a_held_waiting_job_leaves_the_queue_and_waits(one: World) -> None:
    """No node may take it; nothing is handed over; it is not open work for a watcher."""
    assert one.service.hold(JOB.id) == [JOB.name]
    for _ in range(5):
        one.tick(100.0)

    assert one.state(JOB) is JobState.HELD
    assert states(one) == [TaskState.CANCELLED]
    assert one.tick().open_jobs == 0


def test_a_held_running_job_saves_leaves_and_stays_held(one: World) -> None:
    """It is asked as at a preemption; what Slurm requeues meanwhile is taken out of the queue."""
    (key,) = one.task_keys()
    one.begin(key, JOB)
    one.tick()
    one.service.hold(JOB.id)
    one.tick(1.0)
    control = read_record(one.service.state.job(JOB.id).control, ControlRecord)
    assert control is not None
    assert (control.epoch, control.cause) == (1, StopCause.HOLD)
    assert ("notify", key) in one.fake.log

    one.fail(JOB, Outcome.SAVED)
    one.fake.preempt(key, requeue=True)
    for _ in range(4):
        one.tick(1.0)

    assert one.state(JOB) is JobState.HELD
    assert states(one) == [TaskState.CANCELLED]
    assert ("kill", key) not in one.fake.log


def test_a_held_attempt_that_does_not_leave_is_killed_after_its_grace(one: World) -> None:
    """As a preempted one would be."""
    (key,) = one.task_keys()
    one.begin(key, JOB)
    one.tick()
    one.service.hold(JOB.id)
    one.tick(1.0)
    one.tick(JOB.run.grace_seconds + 1)

    assert ("kill", key) in one.fake.log


def test_a_hold_is_no_preemption_and_costs_no_budget(one: World) -> None:
    """Its end has a class of its own."""
    (key,) = one.task_keys()
    one.begin(key, JOB)
    one.tick()
    one.service.hold(JOB.id)
    one.tick(1.0)
    one.fake.end(key, TaskState.FAILED, exit_code=75)
    one.tick(1.0)

    (end,) = one.service.store.ends_of(JOB.id)
    assert end.end_class is EndClass.HELD
    assert one.service.rows(JOB.id)[0].preemptions == 0
    assert one.state(JOB) is JobState.HELD


def test_a_released_job_goes_on(one: World) -> None:
    """A new task is handed over, exactly one."""
    one.service.hold(JOB.id)
    one.tick()
    one.tick()
    assert one.service.release(JOB.id) == [JOB.name]
    one.tick()

    assert one.state(JOB) is JobState.QUEUED
    assert states(one) == [TaskState.CANCELLED, TaskState.PENDING]


@pytest.mark.parametrize("wish", ["release", "again"])
def test_asked_to_go_on_while_its_attempt_still_leaves_it_does_so_afterwards(
    one: World, wish: str
) -> None:
    """The wish is kept; it neither starts a second copy nor is lost."""
    (key,) = one.task_keys()
    one.begin(key, JOB)
    one.tick()
    one.service.hold(JOB.id)
    getattr(one.service, wish)(JOB.id)
    one.tick(1.0)
    assert one.state(JOB) is JobState.HELD
    assert len(one.task_keys()) == 1

    one.fail(JOB, Outcome.SAVED)
    one.fake.end(key, TaskState.FAILED, exit_code=75)
    one.tick(1.0)
    one.tick(1.0)

    assert one.state(JOB) is JobState.QUEUED
    assert len(one.task_keys()) == 2


def leaving_and_wanted(world: World) -> None:
    """Cancel a running job and want it again while its attempt still leaves."""
    (key,) = world.task_keys()
    world.begin(key, JOB)
    world.tick()
    world.fake.unreachable = 1000  # its end is not heard of yet
    world.service.cancel(JOB.id)
    assert world.service.again(JOB.id) == [JOB.name]
    assert world.state(JOB) is JobState.CANCELLED


def leaves(world: World) -> None:
    """Let the attempt end."""
    world.fail(JOB, Outcome.SAVED)
    world.fake.end(world.task_keys()[0], TaskState.FAILED, exit_code=75)
    world.fake.unreachable = 0
    for _ in range(3):
        world.tick(400.0)


def test_a_cancelled_and_retried_job_can_be_held_before_its_last_attempt_has_left(
    one: World,
) -> None:
    """It is going on, so that it can be told to wait; a release then runs it with whole budgets."""
    leaving_and_wanted(one)

    assert one.service.hold(JOB.id) == [JOB.name]
    assert one.state(JOB) is JobState.HELD
    leaves(one)
    assert one.state(JOB) is JobState.HELD
    assert len(one.task_keys()) == 1

    assert one.service.store.budget_epoch(JOB.id) == 1
    assert one.service.release(JOB.id) == [JOB.name]
    one.tick()
    assert one.state(JOB) is JobState.QUEUED


def test_a_retry_can_be_taken_back_before_the_last_attempt_has_left(one: World) -> None:
    """The newest wish counts: cancelled means that nothing follows."""
    leaving_and_wanted(one)

    assert one.service.cancel(JOB.id) == [JOB.name]
    leaves(one)

    assert one.state(JOB) is JobState.CANCELLED
    assert one.service.rows(JOB.id)[0].reason == "cancelled by a person"
    assert len(one.task_keys()) == 1
    assert one.service.cancel(JOB.id) == []


def test_a_released_job_can_be_held_again_before_its_last_attempt_has_left(one: World) -> None:
    """As long as it says that it is held, a second hold must not be taken for nothing."""
    (key,) = one.task_keys()
    one.begin(key, JOB)
    one.tick()
    one.service.hold(JOB.id)
    one.service.release(JOB.id)

    assert one.service.hold(JOB.id) == [JOB.name]
    leaves(one)

    assert one.state(JOB) is JobState.HELD
    assert len(one.task_keys()) == 1


def test_a_job_held_while_nobody_knows_whether_slurm_has_it_is_found_and_taken_back(
    world: World,
) -> None:
    """The acknowledgement was lost; the copy that exists must not run a held job."""
    world.fake.next_submit.append("lost_ack")
    world.submit([JOB])
    world.service.hold(JOB.id)
    for _ in range(4):
        world.tick(100.0)

    assert world.state(JOB) is JobState.HELD
    assert states(world) == [TaskState.CANCELLED]


def test_submitting_again_does_not_undo_a_persons_hold(one: World) -> None:
    """An edited matrix is submitted for its new cells, not against what was held."""
    one.service.hold(JOB.id)
    one.tick()
    one.submit([JOB])
    one.tick()

    assert one.state(JOB) is JobState.HELD


def test_a_result_that_arrives_while_held_completes_the_job(one: World) -> None:
    """It is valid work."""
    (key,) = one.task_keys()
    one.begin(key, JOB)
    one.tick()
    one.service.hold(JOB.id)
    one.finish(JOB)
    one.fake.end(key, TaskState.COMPLETED, exit_code=0)
    one.tick()

    assert one.state(JOB) is JobState.COMPLETED


def test_a_task_that_slurm_holds_is_released_there(one: World) -> None:
    """`scontrol hold` by a person leaves the job QUEUED; release undoes it."""
    (key,) = one.task_keys()
    one.fake.hold(key)
    one.tick()
    assert "JobHeldUser" in one.service.rows(JOB.id)[0].reason

    assert one.service.release(JOB.id) == [JOB.name]
    one.tick()

    assert states(one) == [TaskState.PENDING]
    assert [entry for entry in one.fake.log if entry[0] == "release"] == [("release", (key,))]


def test_an_administrators_hold_stays_and_the_refusal_is_told_once(one: World) -> None:
    """Asking again and again would help nobody."""
    (key,) = one.task_keys()
    one.fake.hold(key, reason="JobHeldAdmin")
    one.tick()
    one.service.release(JOB.id)
    one.tick()
    one.tick()

    refusals = [e.decision for e in one.service.events(JOB.id) if e.kind == "release"]
    assert refusals == ["fake does not release it: Access/permission denied"]
    assert states(one) == [TaskState.HELD]


def test_a_retried_job_has_its_budgets_whole(world: World) -> None:
    """One exception stops it by default; after a person's retry the next one is again the first."""
    spec = make_spec(7, steps=10, retry={"exceptions": 1})
    world.submit([spec])
    _fail_until_stopped(world, spec, epochs=(1, 2))
    assert world.service.again(spec.id) == [spec.name]
    world.tick(1.0)
    assert "budgets whole" in [e.decision for e in world.service.events(spec.id)][-3]

    _fail_once(world, spec, epoch=3)
    assert world.state(spec) in (JobState.RETRYING, JobState.QUEUED)
    world.tick(400.0)
    _fail_once(world, spec, epoch=4)
    assert world.state(spec) is JobState.FAILED


def test_the_next_task_says_from_where_budgets_count(world: World) -> None:
    """The batch script asks the same rule with nobody watching."""
    spec = make_spec(8, steps=10)
    world.submit([spec])
    _fail_until_stopped(world, spec, epochs=(1,))
    world.service.again(spec.id)
    world.tick(1.0)

    token = world.task_keys()[-1].token
    text = world.service.state.submission(token).tasks.read_text()
    assert '"budget_epoch":1' in text


def _fail_once(world: World, spec: object, *, epoch: int) -> None:
    key = world.task_keys()[-1]
    world.begin(key, spec, epoch=epoch)  # type: ignore[arg-type]
    world.tick(1.0)
    world.fail(spec, Outcome.EXCEPTION, epoch=epoch)  # type: ignore[arg-type]
    world.fake.end(key, TaskState.FAILED, exit_code=1)
    world.tick(1.0)


def _fail_until_stopped(world: World, spec: object, *, epochs: tuple[int, ...]) -> None:
    for epoch in epochs:
        _fail_once(world, spec, epoch=epoch)
        world.tick(400.0)
    assert world.state(spec) is JobState.FAILED  # type: ignore[arg-type]


def test_a_release_that_is_refused_again_and_again_leaves_one_event(world: World) -> None:
    """It is asked at every tick; a journal that grew with it would fill the disk over a weekend."""
    world.submit(SPECS[:1])
    (key,) = world.task_keys()
    world.fake.hold(key, "JobHeldAdmin", by_scheduler=True)

    for _ in range(10):
        world.tick()

    assert world.state(SPECS[0]) is JobState.QUEUED
    events = [e for e in world.service.events(SPECS[0].id) if e.kind == "release"]
    assert len(events) == 1
    assert "denied" in world.service.rows(SPECS[0].id)[0].reason


def test_a_released_job_whose_task_has_not_left_makes_a_reader_look(world: World) -> None:
    """No job counts as open, yet only a tick that sees the task leave lets it go on."""
    world.submit(SPECS[:1])
    (key,) = world.task_keys()
    world.begin(key, SPECS[0])
    world.tick()
    world.service.hold(SPECS[0].id)
    world.service.release(SPECS[0].id)
    assert world.state(SPECS[0]) is JobState.HELD
    reader = Reader(world.home)
    assert reader.overview(None, limit=0).open_jobs == 0

    assert reader.unsettled()
    world.fake.end(key, TaskState.CANCELLED)
    world.tick()
    world.tick(400.0)
    assert world.state(SPECS[0]) is JobState.QUEUED

    again = world.task_keys()[-1]
    world.begin(again, SPECS[0], epoch=2)
    world.finish(SPECS[0], epoch=2)
    world.fake.end(again, TaskState.COMPLETED, exit_code=0)
    world.tick()
    assert not reader.unsettled()
