"""A hold at a real Slurm, and its release."""

from __future__ import annotations

import pytest

from orchestrator.devcluster.cluster import PrivateCluster
from orchestrator.schedulers.base import TaskState
from tests.slurm.private_cluster import StubJobs, slurm, take_all_nodes

pytestmark = pytest.mark.slurm


def test_tasks_that_a_person_holds_are_released_by_their_own_names(
    slurm_cluster: PrivateCluster, stub_jobs: StubJobs
) -> None:
    """Two of three tasks of an array are held; one is released, and no other."""
    take_all_nodes(60)
    first, second, third = stub_jobs.submit(stub_jobs.specs(3))
    for key in (first, third):
        slurm("scontrol", "hold", f"{key.scheduler_id}_{key.index}")
        assert stub_jobs.wait(key, TaskState.HELD).reason == "JobHeldAdmin"  # we are root

    assert stub_jobs.scheduler.release([second, third]) == {second: None, third: None}

    stub_jobs.wait(third, TaskState.PENDING)
    stub_jobs.wait(first, TaskState.HELD)
