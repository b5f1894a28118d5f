"""The account of a real run that lost steps: it adds up, and what was repeated is counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.contract.records import EpochRecord, Spent, read_record
from jobs.history import read_history
from tests.e2e.comparison import bench
from worker.forkserver import ForkServer

pytestmark = pytest.mark.e2e
BOOKKEEPING_SECONDS = 0.1  # between the last lap and the record; rounding


def parts(spent: Spent) -> float:
    """Return all seconds of an account."""
    return sum(spent.model_dump(exclude={"replayed_steps"}).values())


def test_steps_that_were_lost_are_replayed_and_the_parts_fit_into_the_wall_time(
    tmp_path: Path, fork_server: ForkServer
) -> None:
    """An attempt dies past its checkpoint, and the next one does those steps again."""
    job = bench(tmp_path, "job", fork_server)
    first = job.attempt(fault="loop.after_step:errno=EIO@7")
    job.until_done()

    died = first.exit()
    history = read_history(job.job).attempts
    assert died.last_step == 7
    assert died.spent.replayed_steps == 0
    assert history[1].spent is not None
    assert history[1].spent.replayed_steps == died.last_step - (died.committed_step or 0)
    for attempt in history:
        claim = read_record(job.job.epoch(attempt.epoch), EpochRecord)
        assert claim is not None
        assert attempt.spent is not None
        assert attempt.exit is not None
        assert attempt.exit.written_at is not None
        wall = attempt.exit.written_at - claim.started_at
        assert parts(attempt.spent) <= wall + BOOKKEEPING_SECONDS
        assert attempt.spent.starting > 0
        assert attempt.spent.training > 0
    assert history[-1].spent is not None
    assert history[-1].spent.testing > 0
