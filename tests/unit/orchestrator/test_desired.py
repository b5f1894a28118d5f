"""Desired state: an edited matrix adds what is new; what was removed is shown, or pruned."""

from __future__ import annotations

from jobs.contract.records import ProgressRecord
from jobs.states import JobState
from orchestrator.schedulers.base import TaskState
from orchestrator.views.plan import change_lines
from tests.contract.stub import make_matrix, make_spec
from tests.unit.orchestrator.world import World

A, B, C = (make_spec(seed, steps=10, name=f"m/{seed}") for seed in (1, 2, 3))


def test_an_edited_matrix_adds_only_what_is_new_and_shows_what_it_dropped(world: World) -> None:
    """Without --prune removed jobs go on, and are shown again at the next submission."""
    world.submit([A, B], name="m")

    first = world.submit([B, C], name="m").plan
    again = world.submit([B, C], name="m").plan

    assert (first.new, first.unchanged) == (1, 1)
    assert [job.id for job in first.removed] == [job.id for job in again.removed] == [A.id]
    assert again.new == 0
    assert world.state(A) is JobState.QUEUED
    assert len(world.task_keys()) == 3


def test_prune_cancels_what_nobody_wants_and_only_that(world: World) -> None:
    """A job that another matrix names, and one with a result, are kept."""
    world.submit([A, B, C], name="m")
    world.submit([B], name="other")
    world.begin(world.task_keys()[2], C)
    world.finish(C)
    world.tick()

    plan = world.service.plan([make_matrix([make_spec(4, name="m/4")], name="m")])
    assert ([job.id for job in plan.removed], plan.kept) == ([A.id], 1)
    world.service.submit([make_matrix([make_spec(4, name="m/4")], name="m")], prune=True)
    world.tick()

    assert [world.state(spec) for spec in (A, B, C)] == [
        JobState.CANCELLED,
        JobState.QUEUED,
        JobState.COMPLETED,
    ]
    assert "no longer in matrix m" in world.service.rows(A.id)[0].reason


def test_a_job_that_moves_to_another_matrix_of_the_same_command_is_not_cancelled(
    world: World,
) -> None:
    """Whatever the order of the files."""
    world.submit([A, B], name="m")

    world.service.submit([make_matrix([B], name="m"), make_matrix([A], name="n")], prune=True)

    assert world.state(A) is JobState.QUEUED


def test_the_same_file_twice_changes_nothing_and_says_so(world: World) -> None:
    """Nor does an older file that names what is there."""
    world.submit([A, B], name="m")

    plan = world.submit([A, B], name="m").plan

    assert plan.changes_nothing
    assert change_lines(plan, prune=False) == [
        "nothing to change: all of this was submitted before"
    ]
    assert len(world.task_keys()) == 2


def test_the_older_file_submitted_again_is_the_newest(world: World) -> None:
    """What counts is what was asked for last."""
    world.submit([A], name="m")
    world.submit([B], name="m")

    plan = world.submit([A], name="m").plan

    assert [job.id for job in plan.removed] == [B.id]
    world.service.submit([make_matrix([C], name="n")], prune=True)
    assert world.state(B) is JobState.QUEUED  # of another matrix


def test_a_shared_cell_runs_once_and_shows_in_both(world: World) -> None:
    """One task, two names of matrices."""
    world.submit([A, B], name="m")
    world.submit([A], name="n")

    assert len(world.task_keys()) == 2
    assert world.service.rows(A.id)[0].matrices == ("m", "n")
    assert [row.id for row in world.service.rows("n")] == [A.id]


def test_the_estimate_counts_time_limits_and_then_the_measured_pace(world: World) -> None:
    """An upper bound always; hours by steps once a job of the matrix has finished."""
    plan = world.service.plan([make_matrix([A, B], name="m")])
    assert plan.estimate
    assert (plan.estimate.cpu_hours_limit, plan.estimate.cpu_hours_measured) == (2.0, None)
    world.submit([A], name="m")
    key = world.task_keys()[0]
    world.begin(key, A)
    progress = world.service.state.job(A.id).attempt(1).progress
    record = ProgressRecord.model_validate_json(progress.read_bytes())
    progress.write_bytes(record.model_copy(update={"steps_per_second": 0.01}).to_json())
    world.finish(A)
    world.fake.end(key, TaskState.COMPLETED, exit_code=0)
    world.tick()

    estimate = world.service.plan([make_matrix([A, B], name="m")]).estimate

    assert estimate
    assert estimate.measured_jobs == 1
    assert estimate.cpu_hours_limit == 1.0
    assert estimate.cpu_hours_measured is not None
    assert abs(estimate.cpu_hours_measured - 10 * 100 / 3600) < 1e-9
