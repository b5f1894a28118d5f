"""Which cells of a packed allocation run, and what follows when one has left."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from jobs.contract.paths import SubmissionDir
from jobs.contract.records import (
    DepartureRecord,
    DropRecord,
    Outcome,
    StopCause,
    TaskRecord,
    TasksRecord,
    read_record,
)
from jobs.packed import Verdict, begin, judge_allocation, left, main
from tests.unit.jobs.job_directories import Written, new_job, put

TOKEN = "t1"
S, P = Outcome.SAVED, StopCause.PREEMPTION


@dataclass
class Packed:
    """Cells 2 and 3 of a submission that packs two: allocation 1. Cell 3 is the job."""

    submission: SubmissionDir
    job: Written

    def left(self, code: int, *, launch: int = 1, restarts: int = 0) -> Verdict:
        """Let the job's cell leave."""
        return left(self.submission.path, 3, restarts=restarts, launch=launch, code=code)

    def begins(self, restarts: int = 0) -> bool:
        """Tell whether the cell is started in a run of the allocation."""
        return 3 in begin(self.submission.path, 1, restarts)

    @property
    def departure(self) -> DepartureRecord | None:
        """The record that the cell is over."""
        return read_record(self.submission.departure(3), DepartureRecord)


@pytest.fixture
def packed(tmp_path: Path) -> Packed:
    """A submission of four cells in two allocations; nothing has run."""
    job = new_job(tmp_path)
    submission = SubmissionDir(tmp_path / "submissions" / TOKEN)
    others = ("a" * 16, "b" * 16, "c" * 16)
    tasks = tuple(TaskRecord(index=i, job=j) for i, j in enumerate((*others, job.job.path.name)))
    record = TasksRecord(token=TOKEN, scheduler="slurm", tasks=tasks, pack=2)
    put(submission.tasks, record.to_json())
    return Packed(submission, job)


def test_an_allocation_starts_its_own_cells(packed: Packed) -> None:
    """Index n serves the tasks from n x pack on."""
    assert begin(packed.submission.path, 0, 0) == [0, 1]
    assert begin(packed.submission.path, 1, 0) == [2, 3]


@pytest.mark.parametrize(
    ("outcome", "cause", "code", "verdict", "recorded"),
    [
        (S, P, 75, Verdict.LATER, None),  # the site wants the allocation: it comes back
        (S, StopCause.TIME_LIMIT, 75, Verdict.LATER, None),
        (S, StopCause.REHEARSAL, 75, Verdict.AGAIN_HERE, None),  # `orch preempt` of this one
        (Outcome.PEER_LOST, None, 75, Verdict.AGAIN_HERE, None),
        (Outcome.PEER_LOST, P, 75, Verdict.LATER, None),
        (S, StopCause.HOLD, 75, Verdict.OVER, 75),  # a person says when it goes on
        (Outcome.EXCEPTION, None, 1, Verdict.OVER, 1),
        (Outcome.CONFIGURATION, None, 78, Verdict.OVER, 78),
        (None, None, 137, Verdict.OVER, 137),
        (None, None, 143, Verdict.LATER, None),
    ],
)
def test_what_follows_when_a_cell_leaves(
    packed: Packed,
    outcome: Outcome | None,
    cause: StopCause | None,
    code: int,
    verdict: Verdict,
    recorded: int | None,
) -> None:
    """Its own record decides; only what is over here is put on record, with its epoch."""
    packed.begins()
    packed.job.attempt(*([outcome] if outcome else []), committed=20, cause=cause, index=1)

    assert packed.left(code) is verdict
    found = packed.departure
    assert (found.exit_code if found else None) == recorded
    assert found is None or found.epoch == 1
    assert packed.begins(1) is (recorded is None)


def test_a_result_is_the_last_word(packed: Packed) -> None:
    """However it left; and the next run of the allocation does not start it."""
    packed.begins()
    packed.job.attempt(Outcome.COMPLETED, committed=60, index=1).result()

    assert packed.left(137) is Verdict.DONE
    assert packed.departure is not None
    assert packed.departure.exit_code == 0
    assert not packed.begins(1)


def test_a_launch_that_never_claimed_is_not_started_again_at_once(packed: Packed) -> None:
    """The rehearsed attempt before it must not be taken for its own end: that would never end."""
    packed.begins()
    packed.job.attempt(S, committed=20, cause=StopCause.REHEARSAL, index=1)

    assert packed.left(75, launch=1) is Verdict.AGAIN_HERE
    assert packed.left(75, launch=2) is Verdict.LATER


def test_without_progress_a_cell_stops_and_its_neighbour_goes_on(packed: Packed) -> None:
    """Three restarts in a row that added nothing: not begun again, and that is on record."""
    packed.begins()
    for restart in range(4):
        packed.job.attempt(S, committed=20, resumed=20, cause=P, restart=restart, index=1)

    assert begin(packed.submission.path, 1, 4) == [2]
    assert packed.departure is not None
    assert "no progress" in packed.departure.reason


def test_a_dropped_cell_never_begins_and_is_over_when_it_leaves(packed: Packed) -> None:
    """The orchestrator's wish is durable; the allocation asks for no other run for its sake."""
    packed.job.attempt(S, committed=20, cause=P, index=1)
    put(packed.submission.drop(3), DropRecord(at=1.0, grace_seconds=5.0).to_json())
    for cell in (2,):
        put(packed.submission.departure(cell), DepartureRecord(index=cell, reason="").to_json())

    assert packed.left(75) is Verdict.OVER
    assert begin(packed.submission.path, 1, 1) == []
    assert not judge_allocation(packed.submission.path, 1, 0)


def test_before_it_began_a_dropped_cell_has_no_exit_code(packed: Packed) -> None:
    """That tells the orchestrator that nothing ran."""
    put(packed.submission.drop(3), DropRecord(at=1.0, grace_seconds=5.0).to_json())

    assert not packed.begins()
    assert packed.departure is not None
    assert packed.departure.exit_code is None


def test_an_allocation_comes_back_while_any_cell_is_unfinished(packed: Packed) -> None:
    """One that failed does not stop the other; when all are over nothing is requeued."""
    packed.begins()
    packed.job.attempt(Outcome.EXCEPTION, error="no", index=1)
    put(packed.submission.state.job("c" * 16).spec, packed.job.job.spec.read_bytes())
    packed.left(1)
    assert judge_allocation(packed.submission.path, 1, 0)  # cell 2 has not run yet

    put(packed.submission.departure(2), DepartureRecord(index=2, reason="").to_json())
    assert not judge_allocation(packed.submission.path, 1, 0)


def test_an_old_copy_says_nothing_of_a_cell_that_the_new_one_runs(packed: Packed) -> None:
    """A node that only looked dead: two copies of one allocation, the newer claim holds the job."""
    packed.begins()
    packed.job.attempt(index=1)  # restart 0, alive on the lost node
    packed.job.attempt(index=1, restart=1)  # its successor

    assert packed.left(1, restarts=0) is Verdict.OVER
    assert packed.departure is None


def test_what_an_old_copy_wrote_before_does_not_stop_the_new_one(packed: Packed) -> None:
    """A departure older than the newest claim counts for nothing."""
    packed.begins()
    packed.job.attempt(Outcome.EXCEPTION, error="no", index=1)
    packed.left(1)
    packed.job.attempt(S, committed=20, cause=P, index=1, restart=1)

    assert packed.begins(2)


def test_a_memory_kill_is_read_from_the_cells_own_output(packed: Packed) -> None:
    """slurmstepd says it there; no exit record can."""
    packed.begins()
    packed.job.attempt(index=1)
    words = b"slurmstepd: error: Detected 1 oom_kill event in StepId=7.2.\n"
    packed.submission.cell_output(3).write_bytes(b"step 4\n" * 9000 + words)

    packed.left(137)

    assert packed.departure is not None
    assert packed.departure.out_of_memory


def test_the_command_line_answers_the_batch_script(
    packed: Packed, capsys: pytest.CaptureFixture[str]
) -> None:
    """Indices in one line; the verdict as exit code, with a line for people."""
    where = ["--submission", str(packed.submission.path), "--restarts", "0"]

    assert main(["begin", *where, "--allocation", "1"]) == 0
    assert capsys.readouterr().out == "2 3\n"
    packed.job.attempt(S, committed=20, cause=P, index=1)
    assert main(["left", *where, "--index", "3", "--launch", "1", "--code", "75"]) == 75
    assert capsys.readouterr().out == "orch: cell 3 left with 75: LATER\n"
