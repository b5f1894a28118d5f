"""A full disk costs a save, never the run: what the rules allow goes, and it is tried once more."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from jobs.spec import Run
from tests.e2e.comparison import bench, outcome, uninterrupted
from tests.e2e.harness import Bench
from worker.forkserver import ForkServer

pytestmark = pytest.mark.e2e
KEEP_MANY = Run.model_validate({"save": {"every_steps": 2, "keep": 4, "background": False}})


def steps_of(job: Bench) -> list[str]:
    """Return the committed checkpoints' names."""
    return sorted(path.name for path in job.job.checkpoints.glob("step-*"))


def test_room_is_made_and_the_save_is_tried_again(tmp_path: Path, fork_server: ForkServer) -> None:
    """ENOSPC in one rank's shard: down to two checkpoints, then saved; nobody needs to look."""
    changes = {"engine__ranks": 2}
    whole = uninterrupted(tmp_path, fork_server, **changes)
    job = bench(tmp_path, "job", fork_server, **changes)
    job = Bench(tmp_path / "many", fork_server, job.job_semantic, KEEP_MANY)

    # The fourth save fails on rank 1: three were kept until then.
    ended = job.attempt(stop_at=9, fault="save.before_stage[rank=1]:errno=ENOSPC@4")

    assert ended.exit_code == 75
    assert not any("not saved" in line for line in ended.progress.reports)
    names = steps_of(job)
    assert "step-00000008.e0001" in names  # the one that failed first
    assert "step-00000002.e0001" not in names  # it had to go
    job.until_done()
    assert outcome(job) == whole


def test_where_nothing_may_go_training_goes_on_and_it_is_said(
    tmp_path: Path, fork_server: ForkServer
) -> None:
    """With two checkpoints there is nothing to delete: reported, and the result is the same."""
    whole = uninterrupted(tmp_path, fork_server)
    job = bench(tmp_path, "job", fork_server)

    ended = job.attempt(fault="save.before_stage:errno=ENOSPC@1")

    assert ended.exit_code == 0
    assert any("not saved" in line for line in ended.progress.reports)
    assert outcome(job) == whole


def test_a_checkpoint_that_reads_back_differently_is_not_trusted(
    tmp_path: Path, fork_server: ForkServer
) -> None:
    """With save.read_back, what the disk made of it is compared at once: quarantined, and said."""
    run = Run.model_validate({"save": {"every_steps": 4, "read_back": True}})
    whole = uninterrupted(tmp_path, fork_server)
    semantic = bench(tmp_path, "unused", fork_server).job_semantic
    job = Bench(tmp_path / "job", fork_server, semantic, run)
    launched = job.start(fault="commit.after_rename:stop@1")
    try:
        launched.wait_stopped(0)
        (name,) = steps_of(job)
        path = job.job.checkpoints / name / "rank-00000/optimizer.safetensors"
        path.write_bytes(path.read_bytes()[::-1])
        launched.signal_ranks(signal.SIGCONT)
        ended = launched.wait()
    finally:
        launched.end()

    assert ended.exit_code == 0
    assert any("read back differently" in line for line in ended.progress.reports)
    assert [cell.name for cell in (job.job.checkpoints / "quarantine").iterdir()] == [f"{name}.0"]
    assert outcome(job) == whole
