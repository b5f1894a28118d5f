"""Handing over and settling: exactly one effective task per job."""

from __future__ import annotations

from jobs.states import JobState
from orchestrator.schedulers.base import TaskState
from tests.contract.stub import make_matrix, make_spec
from tests.unit.orchestrator.world import SPECS, World


def test_submit_is_idempotent(world: World) -> None:
    """The second time nothing is submitted and the plan says that all is unchanged."""
    first = world.submit()
    second = world.submit()

    assert (first.plan.new, first.submitted, first.waiting) == (3, 3, 0)
    assert (second.plan.new, second.plan.unchanged, second.submitted) == (0, 3, 0)
    assert len(world.task_keys()) == 3


def test_a_plan_has_no_effect(world: World) -> None:
    """Neither files nor rows nor submissions."""
    plan = world.service.plan([make_matrix(SPECS), make_matrix(SPECS[:1], name="other")])

    assert (plan.cells, plan.unique_jobs, plan.new) == (4, 3, 3)
    assert not world.service.state.jobs.exists()
    assert world.task_keys() == []


def test_identical_resources_go_out_as_one_array_in_chunks(world: World) -> None:
    """Different resources are different submissions; the chunk limit holds."""
    world.fake.chunk_limit = 2
    big = make_spec(9, resources={"memory_gb": 50.0})

    world.submit([*SPECS, big])

    sizes: dict[str, int] = {}
    for key in world.task_keys():
        sizes[key.token] = sizes.get(key.token, 0) + 1
    assert sorted(sizes.values()) == [1, 1, 2]


def test_a_lost_acknowledgement_is_adopted(world: World) -> None:
    """Uncertain, found by its token, one copy."""
    world.fake.next_submit.append("lost_ack")
    report = world.submit()

    assert report.unreachable
    assert world.state(SPECS[0]) is JobState.SUBMITTED
    world.tick()

    assert world.state(SPECS[0]) is JobState.QUEUED
    assert len(world.task_keys()) == 3


def test_a_lost_request_is_repeated_only_after_a_quiet_time(world: World) -> None:
    """k complete searches and a minute: before, a second copy could appear."""
    world.fake.next_submit.append("lost_request")
    world.submit()

    for _ in range(5):
        world.tick(seconds=5)
    assert world.task_keys() == []
    world.tick(seconds=60)

    assert len(world.task_keys()) == 3
    row = world.service.rows(SPECS[0].id)[0]
    assert (row.state, row.attempts) == (JobState.QUEUED, 0)


def test_searches_that_fail_are_not_counted(world: World) -> None:
    """An unreachable scheduler is no evidence that the job is not there."""
    world.fake.next_submit.append("lost_request")
    world.submit()
    world.fake.unreachable = 10**6

    for _ in range(20):
        world.tick(seconds=60)

    assert world.fake.tasks() == []
    assert world.state(SPECS[0]) is JobState.SUBMITTED


def test_surplus_copies_are_cancelled_before_one_is_adopted(world: World) -> None:
    """A retried sbatch may have succeeded twice."""
    world.fake.next_submit.append("lost_ack")
    world.submit(SPECS[:1])
    (key,) = world.task_keys()
    world.fake.duplicate(key.token)

    world.tick()

    states = [task.state for _, task in world.fake.tasks()]
    assert sorted(states) == [TaskState.CANCELLED, TaskState.PENDING]
    assert world.state(SPECS[0]) is JobState.QUEUED


def test_a_limit_costs_no_attempt_and_waits(world: World) -> None:
    """A temporary refusal gives the jobs back; they go out later."""
    world.fake.next_submit.extend(["refuse"])
    report = world.submit()

    assert report.refused == ("QOSMaxSubmitJobPerUserLimit",)
    assert (report.submitted, report.waiting) == (0, 3)
    world.tick(seconds=5)
    assert world.task_keys() == []
    world.tick(seconds=30)
    assert len(world.task_keys()) == 3


def test_a_permanent_refusal_holds_the_jobs_with_the_fix(world: World) -> None:
    """Asking again (after the fix) submits them."""
    world.fake.next_submit.append("refuse_for_ever")
    report = world.submit()

    row = world.service.rows(SPECS[0].id)[0]
    assert row.state is JobState.HELD
    assert "site.yaml" in row.reason
    assert "site.yaml" in report.refused[0]

    world.submit()
    assert len(world.task_keys()) == 3
