"""Handing over and settling: exactly one effective task per job."""

from __future__ import annotations

import pytest

from jobs.states import JobState
from orchestrator.schedulers.base import Passed, Refused, TaskState, Unreachable
from orchestrator.service import Service
from orchestrator.submission import MAX_FULL_PER_TICK
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


def test_a_transient_refusal_costs_no_attempt_and_waits(world: World) -> None:
    """The jobs are given back; they go out later."""
    world.fake.next_submit.extend(["refuse"])
    report = world.submit()

    assert report.refused == ("Requested nodes are busy",)
    assert (report.submitted, report.waiting) == (0, 3)
    world.tick(seconds=5)
    assert world.task_keys() == []
    world.tick(seconds=30)
    assert len(world.task_keys()) == 3


def test_a_transient_refusal_delays_its_own_group_only(world: World) -> None:
    """Other resources may well be free."""
    world.fake.next_submit.extend(["refuse"])
    big = make_spec(9, resources={"memory_gb": 50.0})

    report = world.submit([*SPECS, big])

    assert (report.submitted, report.waiting) == (1, 3)
    assert world.state(big) is JobState.QUEUED


def test_jobs_get_through_a_submit_limit_that_nobody_tells(world: World) -> None:
    """A chunk is refused as a whole, so it shrinks; no attempt is charged, no hand is needed."""
    world.fake.max_submit = 4
    specs = [make_spec(seed) for seed in range(11)]

    report = world.submit(specs)

    assert (report.submitted, report.waiting, report.refused) == (4, 7, ())
    assert "QOSMaxSubmitJobPerUserLimit" in world.service.rows(specs[-1].id)[0].reason
    done = 0
    for _ in range(8):
        for key, task in world.fake.tasks():
            if task.state is TaskState.PENDING:
                spec = next(s for s in specs if s.id == task.job)
                world.begin(key, spec)
                world.finish(spec, steps=spec.semantic.train.steps)
                world.fake.end(key, TaskState.COMPLETED, exit_code=0)
                done += 1
        world.tick()
    assert done == len(specs)
    rows = world.service.rows()
    assert {row.state for row in rows} == {JobState.COMPLETED}
    assert {row.attempts for row in rows} == {1}


def test_a_known_submit_limit_is_never_run_into(world: World) -> None:
    """What accounting says saves the refusals, and the others know what they wait for."""
    world.fake.submit_limit = world.fake.max_submit = 2

    report = world.submit()

    assert (report.submitted, report.waiting) == (2, 1)
    assert [what for what, _ in world.fake.log].count("submit") == 1
    assert "submit limit of 2" in world.service.rows(SPECS[2].id)[0].reason


def test_a_full_cluster_is_asked_twice_a_tick_whatever_the_number_of_groups(world: World) -> None:
    """Each group learns for itself, the load stays bounded."""
    world.fake.max_submit = 0
    specs = [make_spec(seed, resources={"memory_gb": 1.0 + seed}) for seed in range(8)]

    world.submit(specs)
    asked = [what for what, _ in world.fake.log].count("submit")

    assert asked == MAX_FULL_PER_TICK
    for _ in range(6):
        world.tick(seconds=1)
    assert [what for what, _ in world.fake.log].count("submit") == len(specs)


def test_a_silent_scheduler_is_asked_less_and_less(world: World) -> None:
    """Not at each tick: a submission that nobody answers costs a minute, and a search."""
    world.fake.next_submit.extend(["lost_request"] * 50)
    specs = [make_spec(seed, resources={"memory_gb": 1.0 + seed}) for seed in range(20)]

    world.submit(specs)
    for _ in range(60):
        world.tick(seconds=2)

    assert 3 <= [what for what, _ in world.fake.log].count("submit") <= 5


def test_a_wrong_name_is_refused_before_the_first_submission(world: World) -> None:
    """No intent, no directory: held with Slurm's words and the key; other groups go on."""
    world.fake.check_answer = Refused(
        reason="Invalid account", permanent=True, hint="set `account` in site.yaml"
    )
    report = world.submit()

    row = world.service.rows(SPECS[0].id)[0]
    assert row.state is JobState.HELD
    assert row.reason == "fake refused: Invalid account; set `account` in site.yaml"
    assert report.refused == ("Invalid account; set `account` in site.yaml",)
    assert not (world.home / "submissions").exists()
    assert [what for what, _ in world.fake.log] == ["check"]

    world.fake.check_answer = Passed()
    world.submit()
    assert len(world.task_keys()) == 3


@pytest.mark.parametrize(
    "answer",
    [
        Unreachable(reason="Unable to contact slurm controller"),
        Refused(reason="Requested nodes are busy", permanent=False),
    ],
)
def test_a_check_that_proves_nothing_never_blocks(
    world: World, answer: Unreachable | Refused
) -> None:
    """It is asked once, and the submission itself is tried."""
    world.fake.check_answer = answer
    world.fake.chunk_limit = 1

    report = world.submit()

    assert report.submitted == 3
    assert [what for what, _ in world.fake.log].count("check") == 1


def test_what_was_taken_once_is_not_checked_again(world: World) -> None:
    """Not even by a new process; other resources are."""
    world.submit(SPECS[:1])
    world.service.close()
    world.service = Service.open(world.home, scheduler=world.fake, clock=world.clock)

    world.submit(SPECS)
    assert [what for what, _ in world.fake.log].count("check") == 1
    world.submit([make_spec(9, resources={"memory_gb": 50.0})])
    assert [what for what, _ in world.fake.log].count("check") == 2


def test_a_permanent_refusal_holds_the_whole_group_after_one_call(world: World) -> None:
    """The remaining chunks would be refused alike; other groups go on."""
    world.fake.chunk_limit = 1
    world.fake.next_submit.append("refuse_for_ever")
    big = make_spec(9, resources={"memory_gb": 50.0})

    report = world.submit([*SPECS, big])

    assert {world.state(spec) for spec in SPECS} == {JobState.HELD}
    assert world.state(big) is JobState.QUEUED
    assert report.submitted == 1
    assert [what for what, _ in world.fake.log].count("submit") == 2


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


def test_no_secret_of_the_environment_gets_into_the_state_directory(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the database nor tasks.json nor a spec: others may read a backup of them."""
    monkeypatch.setenv("WANDB_API_KEY", "canary-of-a-secret")

    world.submit()
    world.tick()

    kept = [path for path in world.home.rglob("*") if path.is_file()]
    assert len(kept) > len(SPECS)
    assert [path for path in kept if b"canary-of-a-secret" in path.read_bytes()] == []
