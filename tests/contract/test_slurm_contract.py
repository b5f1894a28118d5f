"""A real, private Slurm keeps the scheduler's contract."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from orchestrator.devcluster.cluster import PrivateCluster
from orchestrator.schedulers.slurm import SlurmScheduler
from orchestrator.site_schema import Site
from tests.contract.scheduler_contract import Cluster, SchedulerContract
from tests.contract.stub import WORKER, make_spec, write_plan
from tests.slurm.private_cluster import NODES, slurm_cluster

__all__ = ["slurm_cluster"]
pytestmark = pytest.mark.slurm


@pytest.fixture
def cluster(slurm_cluster: PrivateCluster, tmp_path: Path) -> Cluster:
    """Stub workers of nine seconds, one a node: accounting names a canceller some seconds late."""
    home = tmp_path / "home"
    write_plan(home, [make_spec(seed) for seed in range(1, NODES + 2)], seconds_per_step=3)
    shim = home / "python"
    shim.write_text(
        f'#!/bin/sh\ncase "$3" in worker)\n    shift 3\n'
        f'    exec {sys.executable} -P -S {WORKER} "$@" --index "$SLURM_ARRAY_TASK_ID" ;;\n'
        f'esac\nexec {sys.executable} "$@"\n'
    )
    shim.chmod(0o700)
    site = Site(partition=("low",), python=str(shim), extra={"exclusive": True})
    return Cluster(home=home, scheduler=SlurmScheduler(home, site=site), slots=NODES, seconds=60.0)


class TestSlurmKeepsTheContract(SchedulerContract):
    """The suite."""
