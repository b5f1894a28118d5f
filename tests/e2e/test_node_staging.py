"""Saves by way of the node's own disk: killed on the way, or the disk lost, one save is lost."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from jobs.contract.records import WorkerSite
from tests.e2e.comparison import bench, outcome, uninterrupted
from tests.e2e.harness import BEHIND, swept
from tests.e2e.test_crash_while_saving import verified
from worker.fault_points import FAULT_POINTS
from worker.forkserver import ForkServer

pytestmark = [pytest.mark.e2e, pytest.mark.crash]

POINTS = [(name, rank) for name in FAULT_POINTS if name.startswith("node.") for rank in (0, 1)]


def test_killed_on_the_way_from_the_nodes_disk(tmp_path: Path, fork_server: ForkServer) -> None:
    """Each time the previous checkpoint is gone on from, on this node or on another one."""
    changes = {"engine__ranks": 2, "engine__zero_stage": 2}
    whole = uninterrupted(tmp_path, fork_server, **changes)
    job = bench(tmp_path, "job", fork_server, run=BEHIND, **changes)
    job.rank_timeout = 2.0
    disk = tmp_path / "disk"
    job.site = WorkerSite(node_scratch_root=str(disk))
    job.submit()
    assert job.attempt(stop_at=1).exit_code == 75
    (committed,) = verified(job)
    for number, (name, rank) in enumerate(swept(POINTS, sample=[("node.before_copy", 1)])):
        ended = job.attempt(fault=f"{name}[rank={rank}]:kill")

        assert ended.rank_exit_codes[rank] == -9, f"{name} was not reached: {ended.log(rank)}"
        assert ended.progress.resumed_from == committed, name
        assert verified(job) == [committed]
        assert [path for path in disk.rglob("*") if path.is_file()], name
        if number % 2:
            shutil.rmtree(disk)  # the job comes back on another node
    job.until_done(limit=1)

    assert outcome(job) == whole
    assert job.result.exact
    assert len(verified(job)) == 2
    assert not [path for path in disk.rglob("*") if path.is_file()]
