"""SIGSTOP of one rank before, inside and after a save: the attempt ends, no checkpoint is hurt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.e2e.comparison import bench, outcome, uninterrupted
from tests.e2e.harness import BEHIND, WAITED_FOR, swept
from tests.e2e.test_crash_while_saving import EACH_RANK, RANK_0, verified
from worker.forkserver import ForkServer

pytestmark = [pytest.mark.e2e, pytest.mark.crash]

RANK_TIMEOUT = 2.0
# Two time-outs of a save behind the training, the launcher's patience, TERM to KILL, and a start.
BOUND_SECONDS = 2 * RANK_TIMEOUT + (RANK_TIMEOUT + 5) + 5 + 30
CHANGES: dict[str, Any] = {"engine__ranks": 2, "engine__zero_stage": 2, "train__steps": 60}
BEFORE, AFTER = ["loop.after_step"], ["background.decided"]
POINTS = [(name, rank) for name in (*BEFORE, *EACH_RANK, *AFTER) for rank in (0, 1)]
POINTS += [(name, 0) for name in (*RANK_0, "prune.before_rename", "prune.after_rename")]
NEVER_WAITED_FOR = ("background.", "prune.")  # or only passed later than this test looks


@pytest.mark.parametrize("background", swept([True, False], sample=[True]))
def test_a_rank_that_hangs_around_a_save_costs_that_attempt_only(
    tmp_path: Path, fork_server: ForkServer, *, background: bool
) -> None:
    """Nobody waits longer than the bound, every checkpoint is whole, and the job ends alike."""
    points = swept(POINTS, sample=[("commit.before_rename", 0)])
    whole = uninterrupted(tmp_path, fork_server, **CHANGES)
    run = BEHIND if background else WAITED_FOR
    job = bench(tmp_path, "hanging", fork_server, run=run, **CHANGES)
    job.rank_timeout = RANK_TIMEOUT
    for name, rank in points:
        if not background and name.startswith(NEVER_WAITED_FOR):
            continue
        before = verified(job)
        launched = job.start(fault=f"{name}[rank={rank}]:stop")
        try:
            launched.wait_stopped(rank)
            ended = launched.wait(timeout=BOUND_SECONDS)
        finally:
            launched.end()

        assert ended.exit_code == 75, f"{name}[{rank}]: {ended.log(1 - rank)}"
        assert ended.progress.resumed_from == (before[0] if before else None), name
        assert set(before[:1]) <= set(verified(job)), name
    job.until_done(limit=1)
    assert outcome(job) == whole
    assert job.result.exact
