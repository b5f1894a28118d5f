"""What went wrong for users of other tools, as their public issues tell: here each is a test.

`COVERED` names the tests elsewhere that play an incident; the others are played below.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from jobs.contract.records import ProgressRecord, read_record
from jobs.spec import JobSpec
from jobs.states import TERMINAL, JobState
from orchestrator.schedulers.base import OVER, TaskState
from tests.contract.stub import make_spec
from tests.unit.orchestrator.world import SPECS, World

ROOT = Path(__file__).parents[3]
A, B, C = SPECS
UNIT, SLURM = "tests/unit/orchestrator", "tests/unit/slurm"
HOUR = 3600.0
COVERED = {
    "toil 5459: sbatch accepts, then says that the socket timed out": [
        f"{SLURM}/test_lying_commands.py::test_an_accepted_submission_is_adopted_whatever_sbatch_said",
        f"{SLURM}/test_lying_commands.py::test_an_sbatch_that_hangs_after_acceptance_is_adopted",
    ],
    "seml 18, skypilot 10457: squeue fails, prints only an error, or rubbish": [
        f"{SLURM}/test_lying_commands.py::test_a_lying_squeue_changes_nothing",
        f"{SLURM}/test_slurm_parse.py::test_a_listing_with_anything_else_in_it_is_not_believed",
    ],
    "sisyphus: array ranges and odd names in a listing": [
        f"{SLURM}/test_slurm_parse.py::test_job_ids_of_all_forms",
        f"{SLURM}/test_slurm_parse.py::test_a_job_name_cannot_forge_a_row",
        f"{SLURM}/test_slurm_parse.py::test_a_long_name_is_neither_cut_nor_shifts_the_other_fields",
    ],
    "snakemake-slurm 207: accounting is down": [
        f"{SLURM}/test_slurm_scheduler.py::test_accounting_that_cannot_be_believed_is_no_evidence_of_absence",
    ],
    "submitit 1660: an id that was somebody else's years ago": [
        f"{SLURM}/test_slurm_answers.py::test_records_of_a_former_owner_of_the_id_do_not_count",
        f"{SLURM}/test_slurm_scheduler.py::test_a_stranger_with_our_id_is_never_cancelled",
    ],
    "codalab 2391, PreemptMode=CANCEL: preempted and not put back": [
        f"{UNIT}/test_service.py::test_a_preempted_job_is_handed_over_again",
    ],
    "aiida 3183: killed between the intent and the id": [
        "tests/crash/test_submit_and_tick.py::test_fake_survives_a_kill_at_every_point",
        f"{UNIT}/test_lease.py::test_paused_between_intent_and_sbatch_it_submits_nothing",
    ],
    "two orchestrators at once": [
        "tests/crash/test_two_hosts.py::test_the_second_host_names_the_holder_and_only_reads",
        f"{UNIT}/test_lease.py::test_a_holder_that_was_taken_over_can_write_nothing_more",
    ],
    "a stale lock of a dead host": [
        f"{UNIT}/test_lease.py::test_whoever_surely_holds_nothing_is_taken_over",
        "tests/crash/test_two_hosts.py::test_a_killed_holder_leaves_nothing_to_remove",
    ],
    "clock skew": [
        f"{UNIT}/test_clock_jumps.py::test_running_and_waiting_jobs_stay_what_they_are",
        f"{UNIT}/test_clock_jumps.py::test_a_jump_between_two_processes_stalls_loses_and_holds_nobody",
    ],
    "a worker that ignores SIGTERM": [
        "tests/unit/worker/test_launch.py::test_a_rank_that_ignores_term_is_killed_within_the_bound",
        "tests/contract/test_local.py::test_a_worker_that_ignores_its_cancel_is_killed_after_its_grace",
    ],
    "submitit 1780: one rank hangs while another saves": [
        "tests/e2e/test_lost_rank.py::test_a_stopped_rank_ends_the_attempt_within_the_bound",
    ],
    "killed while a checkpoint is written": [
        "tests/crash/test_checkpoint_commit.py::test_any_rank_at_any_point_of_staging",
        "tests/e2e/test_crash_while_saving.py::test_a_rank_killed_while_saving_costs_that_save_only",
    ],
    "a second worker with an old epoch": [
        "tests/unit/worker/test_claim.py::test_a_higher_epoch_fences_a_lower_one",
        "tests/e2e/test_endings.py::test_an_older_epoch_can_publish_nothing",
        "tests/unit/worker/test_publication.py::test_a_newer_copy_that_finished_in_between_is_not_overwritten",
    ],
    "a node that fails every job in two seconds": [
        f"{UNIT}/test_nodes.py::test_a_black_hole_does_not_eat_the_queue",
    ],
    "hyperqueue 501: 50 jobs preempted in ten seconds pause the queue": [
        f"{UNIT}/test_nodes.py::test_a_preemption_storm_strikes_no_node_and_pauses_nothing",
    ],
}


@pytest.mark.parametrize("tests", COVERED.values(), ids=COVERED)
def test_an_incident_that_is_played_elsewhere_has_its_test(tests: list[str]) -> None:
    """Whoever renames or deletes one of them meets this list."""
    for test in tests:
        path, _, name = test.partition("::")
        defined = ast.parse((ROOT / path).read_text(encoding="utf-8")).body
        assert name in {d.name for d in defined if isinstance(d, ast.FunctionDef)}, test


def finish_all(world: World, specs: dict[str, object]) -> int:
    """Let the cluster run what waits, to its result; return the greatest number at once."""
    live = [(key, task) for key, task in world.fake.tasks() if task.state not in OVER]
    for key, task in live:
        world.finish(specs[task.job], steps=10)  # type: ignore[arg-type]
        world.fake.end(key, TaskState.COMPLETED, exit_code=0)
    return len(live)


def test_1500_cells_get_through_max_array_size_1001_and_max_submit_100(world: World) -> None:
    """Every cell gets one result, no refusal costs an attempt, and no job is handed over twice."""
    specs = [make_spec(seed, steps=10) for seed in range(1, 1501)]
    world.fake.chunk_limit, world.fake.max_submit = 1000, 100
    world.submit(specs)
    by_id: dict[str, object] = {spec.id: spec for spec in specs}

    for _ in range(80):
        assert finish_all(world, by_id) <= 100
        world.tick(60.0)
        if not world.service.store.busy():
            break

    rows = world.service.rows(None)
    assert {row.state for row in rows} == {JobState.COMPLETED}
    assert set(world.fake.accepted.values()) == {1}
    assert len(world.fake.accepted) == len(rows) == 1500


def test_a_qos_refusal_in_the_middle_of_a_submission_costs_nothing(world: World) -> None:
    """The arrays before it stay, those after it come later, each job once."""
    specs = [make_spec(seed, steps=10) for seed in range(1, 13)]
    world.fake.chunk_limit = 4
    world.fake.next_submit.extend(["accept", "refuse"])

    world.submit(specs)
    assert len(world.fake.accepted) < 12
    for _ in range(20):
        world.tick(60.0)

    assert {row.state for row in world.service.rows(None)} == {JobState.QUEUED}
    assert set(world.fake.accepted.values()) == {1}
    assert len(world.fake.accepted) == 12


def test_a_matrix_edited_while_half_of_it_runs_touches_nothing_that_runs(world: World) -> None:
    """What stays goes on in the same task, what is new comes, what was dropped is not lost."""
    new = make_spec(9, steps=10)
    world.submit([A, B, C])
    world.begin(world.task_keys()[0], A)
    world.begin(world.task_keys()[1], B)
    world.tick()

    report = world.submit([A, C, new])
    world.tick()

    assert report.submitted == 1
    states = [world.state(spec) for spec in (A, B, C, new)]
    assert states == ["RUNNING", "RUNNING", "QUEUED", "QUEUED"]
    assert set(world.fake.accepted.values()) == {1}
    assert not [what for what, _ in world.fake.log if what in ("cancel", "kill", "notify")]


def test_a_job_that_completes_while_slurm_is_silent_for_six_hours_is_completed(
    world: World,
) -> None:
    """snakemake-slurm 207: the result counts; the others are neither lost nor given out again."""
    world.submit()
    keys = world.task_keys()
    for key, spec in zip(keys, SPECS, strict=True):
        world.begin(key, spec)
    world.tick()
    world.finish(A)
    world.fake.end(keys[0], TaskState.COMPLETED, exit_code=0)
    world.fake.unreachable = 10_000

    for _ in range(36):
        world.tick(HOUR / 6)

    assert [world.state(spec) for spec in SPECS] == ["COMPLETED", "RUNNING", "RUNNING"]
    assert set(world.fake.accepted.values()) == {1}


def test_a_listing_with_rc_0_and_nothing_in_it_kills_nobody(world: World) -> None:
    """seml 18: two of them, an hour apart, lose no job and hand none over again."""
    world.submit()
    keys = world.task_keys()
    world.begin(keys[0], A)
    world.tick()
    for key in keys:
        world.fake.hide(key, 2)

    for _ in range(3):
        world.tick(HOUR)

    assert [world.state(spec) for spec in SPECS] == ["RUNNING", "QUEUED", "QUEUED"]
    assert set(world.fake.accepted.values()) == {1}
    assert not [what for what, _ in world.fake.log if what in ("cancel", "kill", "notify")]


def beat(world: World, spec: JobSpec) -> None:
    """Be an attempt that trains on: its heartbeat is written anew."""
    path = world.service.state.job(spec.id).attempt(1).progress
    record = read_record(path, ProgressRecord)
    assert record is not None
    path.write_bytes(record.model_copy(update={"sequence": record.sequence + 1}).to_json())


def test_empty_listings_for_an_hour_lose_no_job_that_gives_signs_of_life(world: World) -> None:
    """seml 18, skypilot 10457, gone on: only who is silent as well is lost, and comes back once."""
    world.submit([A, B])
    for key, spec in zip(world.task_keys(), (A, B), strict=True):
        world.begin(key, spec)
    world.tick()
    for key in world.task_keys():
        world.fake.hide(key, 10_000)

    for _ in range(120):
        beat(world, A)
        world.tick(30.0)

    assert world.state(A) is JobState.RUNNING
    assert world.fake.accepted[A.id] == 1
    assert world.fake.accepted[B.id] == 2
    assert not [what for what, _ in world.fake.log if what in ("cancel", "kill", "notify")]
    for _ in range(20):  # now it is silent, too
        world.tick(30.0)
    assert world.fake.accepted[A.id] == 2


def test_completed_with_exit_code_0_and_no_result_is_no_success(world: World) -> None:
    """desispec 2744: it is tried again, and in the end it is FAILED with the reason."""
    world.submit([A])
    for epoch in range(1, 6):
        live = [key for key, task in world.fake.tasks() if task.state not in OVER]
        for key in live:
            world.begin(key, A, epoch=epoch)
            world.tick()
            world.fake.end(key, TaskState.COMPLETED, exit_code=0)
        world.tick()
        assert world.state(A) is not JobState.COMPLETED
        world.tick(400.0)

    assert world.fake.accepted[A.id] > 1
    assert world.state(A) in TERMINAL - {JobState.COMPLETED}
    assert world.service.rows(A.id)[0].reason


def test_preempted_completing_delayed_and_running_is_one_task(world: World) -> None:
    """codalab 2391, MFC 1311: the same id goes on; nothing is submitted, nothing is charged."""
    world.submit([A])
    (key,) = world.task_keys()
    world.begin(key, A)
    world.tick()
    world.fake._set(key, TaskState.COMPLETING)
    world.tick()
    assert world.state(A) is JobState.RUNNING
    world.fake.requeue(key, TaskState.PREEMPTED)
    world.tick()
    assert world.state(A) is JobState.QUEUED
    world.begin(key, A, epoch=2)
    world.tick()

    assert world.state(A) is JobState.RUNNING
    assert world.task_keys() == [key]
    assert world.fake.accepted[A.id] == 1
    world.finish(A, epoch=2)
    world.fake.end(key, TaskState.COMPLETED, exit_code=0)
    world.tick()
    row = world.service.rows(A.id)[0]
    assert (row.state, row.preemptions) == (JobState.COMPLETED, 1)
