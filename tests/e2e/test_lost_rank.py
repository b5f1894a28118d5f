"""A dead or hung rank ends the attempt within a bound, and the next attempt loses no bit."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from jobs.contract.records import Outcome as Ending
from tests.e2e.comparison import bench, outcome, uninterrupted
from tests.e2e.harness import Bench
from worker.forkserver import ForkServer

pytestmark = pytest.mark.e2e

RANK_TIMEOUT = 2.0
CHANGES = {"engine__ranks": 2, "engine__zero_stage": 2}


@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_rank_ends_the_attempt(tmp_path: Path, fork_server: ForkServer, rank: int) -> None:
    """SIGKILL of one rank: the other says so and leaves; the run goes on from the last save."""
    whole = uninterrupted(tmp_path, fork_server, **CHANGES)
    job = bench(tmp_path, "broken", fork_server, **CHANGES)
    job.rank_timeout = RANK_TIMEOUT
    ended = job.attempt(fault=f"loop.after_step[rank={rank}]:kill@5")

    assert ended.exit_code == 75, ended.log(1 - rank)
    assert ended.exit(1 - rank).outcome is Ending.PEER_LOST
    assert ended.exit(rank) is None
    assert ended.rank_exit_codes[rank] == -9
    job.until_done(limit=1)
    assert outcome(job) == whole
    assert job.result.resumed_steps == (3,)


@pytest.mark.parametrize(("rank", "comes_back"), [(0, False), (1, True)])
def test_a_stopped_rank_ends_the_attempt_within_the_bound(
    tmp_path: Path, fork_server: ForkServer, rank: int, *, comes_back: bool
) -> None:
    """SIGSTOP of one rank: nobody waits longer than the bound; who comes late does no harm."""
    job = bench(tmp_path, "broken", fork_server, **CHANGES)
    job.rank_timeout = RANK_TIMEOUT
    launched = job.start(fault=f"loop.after_step[rank={rank}]:stop@5")
    try:
        stopped = launched.wait_stopped(rank)
        if comes_back:
            launched.until(lambda: ended_by_itself(job, 1 - rank), "the other rank to leave")
            stopped.signal(signal.SIGCONT)
        ended = launched.wait(timeout=RANK_TIMEOUT * 2 + 20)
    finally:
        launched.end()

    assert ended.exit_code == 75, ended.log(1 - rank)
    assert ended.exit(1 - rank).outcome is Ending.PEER_LOST
    if comes_back:
        assert ended.exit(rank).outcome is Ending.PEER_LOST
    assert job.attempt(stop_at=1).progress.resumed_from == "step-00000003.e0001"


def ended_by_itself(job: Bench, rank: int) -> bool:
    """Return whether a rank of the newest attempt has said how it ended."""
    return job.last.exit_record(rank).exists()
