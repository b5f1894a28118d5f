"""Suspended for three times the rank time-out, then continued: nothing is lost, no bit differs."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.comparison import bench, outcome, uninterrupted
from tests.e2e.harness import BEHIND, Launched, swept
from worker.forkserver import ForkServer

pytestmark = pytest.mark.e2e

RANK_TIMEOUT = 2.0
SUSPENDED_SECONDS = 3 * RANK_TIMEOUT
TWO: dict[str, Any] = {"engine__ranks": 2, "engine__zero_stage": 2}


def suspend(launched: Launched, *, with_launcher: bool) -> None:
    """Stop every rank, as `scontrol suspend` does, for longer than silence is borne; go on."""
    if with_launcher:
        launched.process.send_signal(signal.SIGSTOP)
    launched.signal_ranks(signal.SIGSTOP)
    time.sleep(SUSPENDED_SECONDS)
    launched.signal_ranks(signal.SIGCONT)
    if with_launcher:
        launched.process.send_signal(signal.SIGCONT)


@pytest.mark.parametrize(
    ("changes", "rank"), swept([({}, 0), (TWO, 0), (TWO, 1)], sample=[(TWO, 1)])
)
def test_a_suspended_job_goes_on_where_it_stood(
    tmp_path: Path, fork_server: ForkServer, changes: dict[str, Any], rank: int
) -> None:
    """All ranks stand still while one is inside a collective; a save may be behind the training."""
    whole = uninterrupted(tmp_path, fork_server, **changes)
    job = bench(tmp_path, "job", fork_server, run=BEHIND, **changes)
    job.rank_timeout = RANK_TIMEOUT
    launched = job.start(fault=f"loop.after_step[rank={rank}]:stop@4")
    try:
        launched.wait_stopped(rank)
        time.sleep(RANK_TIMEOUT / 4)  # until the other one waits for it
        suspend(launched, with_launcher=rank == 0)
        ended = launched.wait()
    finally:
        launched.end()

    assert ended.exit_code == 0, ended.output
    assert outcome(job) == whole
    assert job.result.resumed_steps == ()
    assert job.result.exact
