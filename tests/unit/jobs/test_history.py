"""A job directory tells its attempts, whatever is torn or missing in it."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.contract.paths import JobDir
from jobs.contract.records import Outcome
from jobs.history import read_history
from tests.unit.jobs.job_directories import new_job, put


def test_a_job_without_a_directory_has_no_attempts(tmp_path: Path) -> None:
    """Nothing was run, nothing is wrong."""
    history = read_history(JobDir(tmp_path / "none"))

    assert (history.attempts, history.completed, history.unclaimed) == ((), False, 0)


def test_an_attempt_is_read_from_its_records(tmp_path: Path) -> None:
    """Claim, phase, where it began and where it came to."""
    job = new_job(tmp_path).attempt(committed=20).attempt(Outcome.SAVED, committed=40, resumed=20)

    first, second = read_history(job.job).attempts

    assert (first.epoch, first.exit, first.committed_step, first.resumed_step) == (1, None, 20, 0)
    assert second.exit is not None
    assert second.exit.outcome is Outcome.SAVED
    assert (second.committed_step, second.resumed_step, second.total_steps) == (40, 20, 60)
    assert second.claim is not None


def test_the_rank_that_knows_best_decides(tmp_path: Path) -> None:
    """A rank that lost its peer only witnessed what another rank knows."""
    job = new_job(tmp_path)
    job.attempt(Outcome.PEER_LOST, Outcome.EXCEPTION, Outcome.PEER_LOST, error="x")

    (attempt,) = read_history(job.job).attempts

    assert attempt.exit is not None
    assert (attempt.exit.outcome, attempt.exit.rank) == (Outcome.EXCEPTION, 1)


def test_a_checkpoint_counts_although_nobody_could_report_it(tmp_path: Path) -> None:
    """SIGKILL after the commit, before the next heartbeat."""
    job = new_job(tmp_path).attempt(committed=20, checkpoint=40)

    assert read_history(job.job).attempts[0].committed_step == 40


def test_staging_and_quarantine_are_no_commits(tmp_path: Path) -> None:
    """Only a final name is one."""
    job = new_job(tmp_path).attempt()
    for name in ("staging", "quarantine", "step-00000040.e0001.tmp", "step-40.e1"):
        (job.job.checkpoints / name).mkdir(parents=True)

    assert read_history(job.job).attempts[0].committed_step is None


def test_torn_records_are_attempts_that_said_nothing(tmp_path: Path) -> None:
    """A power cut leaves empty and half files; the attempt happened all the same."""
    job = (
        new_job(tmp_path).attempt(Outcome.SAVED, committed=20).attempt(Outcome.SAVED, committed=40)
    )
    put(job.job.epoch(1), b"")
    put(job.job.attempt(1).exit_record(0), b'{"epoch": 1, "ra')
    put(job.job.attempt(1).progress, b"\x00" * 100)
    put(job.job.result, b"{}")
    put(job.job.epochs / "0002.json.orch-tmp", b"x")
    put(job.job.epochs / "note.txt", b"x")

    history = read_history(job.job)

    assert [attempt.epoch for attempt in history.attempts] == [1, 2]
    assert history.attempts[0].exit is None
    assert history.attempts[0].claim is None
    assert history.attempts[1].committed_step == 40
    assert not history.completed


def test_an_exit_record_of_another_epoch_is_not_believed(tmp_path: Path) -> None:
    """A copied or restored directory must not speak for this attempt."""
    job = new_job(tmp_path).attempt(Outcome.SAVED, committed=20).attempt()
    record = job.job.attempt(1).exit_record(0).read_bytes()
    put(job.job.attempt(2).exit_record(0), record)

    assert read_history(job.job).attempts[1].exit is None


def test_only_the_jobs_own_result_completes_it(tmp_path: Path) -> None:
    """A result of another job in the wrong place is none."""
    job = new_job(tmp_path).attempt(Outcome.COMPLETED)

    assert not read_history(job.result(job="0" * 16).job).completed
    assert read_history(job.result().job).completed


def test_before_the_restore_nobody_knows_where_it_began(tmp_path: Path) -> None:
    """An attempt that died while starting has not fallen back to step 0."""
    job = new_job(tmp_path).attempt(phase="starting").attempt(phase=None)

    assert [attempt.resumed_step for attempt in read_history(job.job).attempts] == [None, None]


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=80), st.sampled_from(["epoch", "progress", "exit", "result"]))
def test_no_bytes_make_reading_fail(tmp_path_factory: object, data: bytes, which: str) -> None:
    """The batch script must get an answer on a damaged disk."""
    directory = tmp_path_factory.mktemp("job")  # type: ignore[attr-defined]
    job = new_job(directory).attempt(Outcome.SAVED, committed=20)
    paths = {
        "epoch": job.job.epoch(1),
        "progress": job.job.attempt(1).progress,
        "exit": job.job.attempt(1).exit_record(0),
        "result": job.job.result,
    }
    put(paths[which], data)

    assert len(read_history(job.job).attempts) == 1
