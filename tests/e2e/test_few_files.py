"""A job's files are few, however often it was preempted; nothing that an attempt left is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from checkpoints.retention import newest_first
from jobs.history import read_history
from tests.e2e.comparison import bench, outcome, uninterrupted
from tests.e2e.harness import BEHIND
from tests.e2e.test_damaged_checkpoint import flip
from worker.folding import MAX_FILES_FINISHED, count_files
from worker.forkserver import ForkServer

pytestmark = pytest.mark.e2e

MAX_FILES_LIVE = 100
ATTEMPTS = 8


def test_files_of_many_attempts(tmp_path: Path, fork_server: ForkServer) -> None:
    """Two ranks, eight preemptions, a quarantined checkpoint: never 100 files, 40 at the end."""
    changes = {"engine__ranks": 2, "engine__zero_stage": 2, "train__steps": 40}
    whole = uninterrupted(tmp_path, fork_server, **changes)
    job = bench(tmp_path, "job", fork_server, run=BEHIND, **changes)
    most = 0
    for number in range(1, ATTEMPTS + 1):
        assert job.attempt(stop_at=4).exit_code == 75
        most = max(most, count_files(job.job))
        if number == ATTEMPTS - 1:
            names = newest_first(path.name for path in job.job.checkpoints.iterdir())
            flip(job.job.checkpoints / names[0] / "rank-00001" / "optimizer.safetensors")
    before = read_history(job.job).attempts
    job.until_done(limit=1)

    assert len(list((job.job.checkpoints / "quarantine").iterdir())) == 1
    assert most <= MAX_FILES_LIVE
    assert count_files(job.job) <= MAX_FILES_FINISHED, most
    assert outcome(job) == whole  # the curve has the rows of all attempts
    after = read_history(job.job).attempts
    assert len(after) == ATTEMPTS + 1
    assert [a.exits for a in after[:-1]] == [a.exits for a in before]
