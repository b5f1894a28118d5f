"""Fixtures of the tests on a real, private Slurm."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.devcluster.cluster import PrivateCluster
from tests.slurm.private_cluster import StubJobs, slurm_cluster

__all__ = ["slurm_cluster", "stub_jobs"]


@pytest.fixture
def stub_jobs(slurm_cluster: PrivateCluster, tmp_path: Path) -> StubJobs:
    """Jobs of the stub rank in partition `low`."""
    return StubJobs(tmp_path / "orch")
