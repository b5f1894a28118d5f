"""The site leaves less time than the matrix says: two deaths teach it."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from jobs.contract.records import Outcome as Ending
from jobs.spec import Run
from tests.e2e.comparison import bench
from tests.e2e.harness import Bench
from worker.forkserver import ForkServer

pytestmark = pytest.mark.e2e
LONG = Run.model_validate({"save": {"every_steps": 2, "background": False}, "grace_seconds": 60})
SLOW = "save.before_stage:sleep=1@1+"


def die_while_saving(job: Bench, *, after: int) -> None:
    """Get a notice after so many steps, and SIGKILL in the save that follows."""
    launched = job.start(fault=f"{SLOW},loop.after_step[rank=0]:stop@{after}")
    try:
        launched.wait_stopped(0)
        launched.signal_ranks(signal.SIGTERM)
        launched.signal_ranks(signal.SIGCONT)
        launched.until(job.last.noticed.exists, "the notice")
        launched.signal_ranks(signal.SIGKILL)
        launched.wait()
    finally:
        launched.end()
    assert job.last.noticed.exists()
    assert not job.last.exit_record(0).exists()


def test_after_two_kills_the_next_one_leaves_in_time(
    tmp_path: Path, fork_server: ForkServer
) -> None:
    """The third attempt knows, leaves its save out, says why, and takes its own mark away."""
    semantic = bench(tmp_path, "unused", fork_server).job_semantic
    job = Bench(tmp_path / "job", fork_server, semantic, LONG)
    die_while_saving(job, after=3)
    die_while_saving(job, after=1)

    ended = job.attempt(stop_at=3, fault=SLOW)

    assert ended.exit_code == 75
    record = ended.exit()
    assert record is not None
    assert (record.outcome, record.last_step, record.committed_step) == (Ending.SAVED, 5, 4)
    reports = "\n".join(ended.progress.reports)
    assert "attempts 1, 2 were killed" in reports
    assert "goes on from step 4" in reports
    assert not ended.directory.noticed.exists()
