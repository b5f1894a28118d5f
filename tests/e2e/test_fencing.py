"""Two live copies of one job: only the newest epoch commits, the other says so and exits."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from durable.processes import ProcessIdentity
from jobs.archive import AttemptArchive
from jobs.contract.records import ExitRecord, ResultRecord, read_record
from jobs.contract.records import Outcome as Ending
from tests.e2e.comparison import bench, outcome, uninterrupted
from tests.e2e.harness import Attempted, Bench, Launched
from worker.forkserver import ForkServer

pytestmark = pytest.mark.e2e

RANK_TIMEOUT = 4.0
TWO = {"engine__ranks": 2, "engine__zero_stage": 2}


@contextmanager
def stopped_at(job: Bench, fault: str) -> Iterator[Launched]:
    """An attempt whose ranks and launcher all stand still once rank 0 has reached its point."""
    with ExitStack() as cleaning:
        launched = job.start(fault=fault)
        cleaning.callback(launched.end)
        launched.wait_stopped(0)
        launched.signal_ranks(signal.SIGSTOP)
        launcher = ProcessIdentity.of(launched.process.pid)
        assert launcher is not None
        launcher.signal(signal.SIGSTOP)
        yield launched


def go_on(launched: Launched) -> int:
    """Let an attempt go on; return its exit code."""
    launched.signal_ranks(signal.SIGCONT)
    launched.process.send_signal(signal.SIGCONT)
    return launched.wait().exit_code


def says_that_it_is_fenced(job: Bench, epoch: int, *, by: int) -> None:
    """Each rank of an attempt says so: the record with its code, the log with the holder."""
    directory = job.job.attempt(epoch)
    archive = AttemptArchive.of(job.job)  # a finished replacement folds what older ones left
    path, log = directory.exit_record(0), directory.log(0)
    record = read_record(path, ExitRecord) or archive.record(path, ExitRecord)
    assert record is not None
    assert (record.outcome, record.exit_code) == (Ending.FENCED, 1), record
    assert record.error is not None
    assert f"epoch {by} holds the job" in record.error.message
    said = log.read_bytes() if log.exists() else archive.read(log) or b""
    assert f"epoch {by} holds the job" in said.decode()


def committed(job: Bench) -> list[str]:
    """Return the names of all checkpoints."""
    return sorted(path.name for path in job.job.checkpoints.glob("step-*"))


def published(job: Bench) -> dict[str, tuple[int, bytes]]:
    """Return what an attempt shares with others: result, curve and weights, the very files."""
    files = (job.job.result, job.job.metrics, job.job.weights)
    return {path.name: (path.stat().st_ino, path.read_bytes()) for path in files if path.exists()}


# Where rank 0 stands still, and what of it was committed before.
POINTS = ["loop.after_step[rank=0]:stop@4", "loop.after_step[rank=0]:stop@12"]
POINTS += ["commit.before_fence[rank=0]:stop@2", "finish.before_publication[rank=0]:stop"]
# It has looked for a higher epoch and found none.
CHECKED = ["commit.before_rename[rank=0]:stop@2", "publication.checked[rank=0]:stop"]
CHECKED += ["publication.before_result[rank=0]:stop"]
CASES = [*((point, {}) for point in POINTS + CHECKED), *((point, TWO) for point in POINTS[:3])]


@pytest.mark.parametrize(("fault", "changes"), CASES)
def test_continued_after_its_replacement_has_finished(
    tmp_path: Path, fork_server: ForkServer, fault: str, changes: dict[str, int]
) -> None:
    """The replacement's result stands, and nothing of the older epoch is added."""
    whole = uninterrupted(tmp_path, fork_server, **changes)
    job = bench(tmp_path, "job", fork_server, **changes)
    job.rank_timeout = RANK_TIMEOUT
    with stopped_at(job, fault) as older:
        of_older = job.submission
        job.submit()
        job.until_done(limit=1)
        before = published(job), committed(job)
        job.submission = of_older
        code = go_on(older)

    assert code == 0  # the launcher's word is about the job: that has its result
    says_that_it_is_fenced(job, 1, by=2)
    assert (published(job), committed(job)) == before
    assert job.result.epoch == 2
    assert outcome(job) == whole


@pytest.mark.parametrize("changes", [{}, TWO], ids=["one_rank", "two_ranks"])
@pytest.mark.parametrize("fault", [POINTS[0], POINTS[2], CHECKED[0]])
def test_continued_while_its_replacement_runs(
    tmp_path: Path, fork_server: ForkServer, fault: str, changes: dict[str, int]
) -> None:
    """The older copy leaves with 1, so that nothing starts it again; the newer one finishes."""
    whole = uninterrupted(tmp_path, fork_server, **changes)
    job = bench(tmp_path, "job", fork_server, **changes)
    job.rank_timeout = RANK_TIMEOUT
    with stopped_at(job, fault) as older:
        of_older = job.submission
        job.submit()
        of_newer = job.submission
        # It has committed step 6 and goes on to its own next commit only when it is let.
        with stopped_at(job, "loop.after_step[rank=0]:stop@7") as newer:
            before = committed(job)
            job.submission = of_older
            code = go_on(older)
            assert committed(job) == before
            assert read_record(job.job.result, ResultRecord) is None
            job.submission = of_newer
            assert go_on(newer) == 0

    assert code == 1
    says_that_it_is_fenced(job, 1, by=2)
    assert job.result.epoch == 2
    assert outcome(job) == whole


def test_a_notice_to_a_fenced_copy_does_not_bring_it_back(
    tmp_path: Path, fork_server: ForkServer
) -> None:
    """Slurm signals a copy that it no longer knows: 75 would start it a second time."""
    job = bench(tmp_path, "job", fork_server, **TWO)
    job.rank_timeout = RANK_TIMEOUT
    with stopped_at(job, "commit.before_fence[rank=0]:stop") as older:
        of_older = job.submission
        job.submit()
        assert job.attempt(stop_at=2).exit_code == 75
        job.submission = of_older
        older.signal_ranks(signal.SIGTERM)
        code = go_on(older)

    assert code == 1
    says_that_it_is_fenced(job, 1, by=2)


def test_a_fenced_copy_that_lost_a_rank_does_not_come_back(
    tmp_path: Path, fork_server: ForkServer
) -> None:
    """Its other rank waits in vain and would leave with 75; the epoch says that it is over."""
    job = bench(tmp_path, "job", fork_server, **TWO)
    job.rank_timeout = 2.0
    launched = job.start(fault="loop.after_step[rank=1]:stop@4")
    try:
        launched.wait_stopped(1)
        of_older = job.submission
        job.submit()
        assert job.attempt(stop_at=2).exit_code == 75
        job.submission = of_older
        ended: Attempted = launched.wait()
    finally:
        launched.end()

    assert ended.exit_code == 1, ended.output
    says_that_it_is_fenced(job, 1, by=2)
