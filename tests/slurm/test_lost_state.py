"""slurmctld comes back with nothing it knew: our tasks are gone, and strangers have their ids."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from jobs.states import JobState
from orchestrator.devcluster.cluster import PrivateCluster
from orchestrator.devcluster.config import ClusterOptions
from orchestrator.facts import Limits, Patience
from orchestrator.schedulers.base import OVER, Known, TaskKey
from orchestrator.service import Service
from tests.contract.stub import make_matrix
from tests.slurm.audit import audit
from tests.slurm.private_cluster import StubJobs, clear, point_at, slurm, start_cluster, until

pytestmark = pytest.mark.slurm
STEPS = 10


@cache
def forgetful_cluster() -> PrivateCluster | str:
    """Start a cluster of its own, once: others would meet the ids a second time, too."""
    return start_cluster(ClusterOptions(nodes=2))


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[PrivateCluster]:
    """It; no job is left behind."""
    yield point_at(forgetful_cluster(), monkeypatch)
    clear()


def forget_everything(cluster: PrivateCluster) -> None:
    """Kill slurmctld, remove what it had saved, and start it again."""
    os.kill(cluster.daemon_pid("slurmctld"), signal.SIGKILL)
    until(lambda: "slurmctld" not in cluster.status().daemons, "its end")
    shutil.rmtree(cluster.paths.controller_state)
    cluster.paths.controller_state.mkdir(mode=0o755)
    cluster.start_daemon("slurmctld")
    until(lambda: cluster.status().answers, "the controller")


def stranger(scheduler_id: str) -> None:
    """Submit somebody's arrays until one has this id."""
    words = ["sbatch", "--parsable", "--partition=low", "--array=0-1", "--mem=100"]
    words += ["--output=/dev/null", "--wrap=sleep 300"]
    until(lambda: int(slurm(*words)) >= int(scheduler_id), "the id to be issued again")


def test_jobs_are_gone_and_their_ids_are_somebody_elses(
    cluster: PrivateCluster, tmp_path: Path
) -> None:
    """Both jobs get their result, once, under new ids; the stranger is not touched (V1, V3)."""
    jobs = StubJobs(tmp_path / "orch")
    jobs.scheduler.patience = Patience(
        absent_answers=2, absent_seconds=3.0, find_answers=2, quiet_seconds=3.0
    )
    # However long the controller is away: no work that goes on meanwhile is done before it.
    specs = jobs.specs(2, steps=STEPS, seconds_per_step=0.2, save_every=5, stay_at=6)
    service = Service.open(jobs.home, scheduler=jobs.scheduler, limits=Limits(heartbeat_fresh=3.0))
    service.submit([make_matrix(specs)])
    for spec in specs:
        jobs.started(spec)
    service.tick()
    task = service.store.live_tasks()[0]
    old = TaskKey(token=task["token"], scheduler_id=task["scheduler_id"], index=0)

    forget_everything(cluster)
    stranger(old.scheduler_id)

    answer = jobs.look(old)  # accounting remembers it, as cancelled
    assert not isinstance(answer, Known) or answer.state in OVER, answer
    assert jobs.scheduler.cancel([old]) == {old: None}  # what is not ours is not cancelled

    def over() -> bool:
        service.tick()
        return {row.state for row in service.rows()} == {JobState.COMPLETED}

    until(over, "both results", every=0.5, seconds=120)
    assert {row.attempts for row in service.rows()} == {2}
    ids = {str(row.scheduler_id).partition("_")[0] for row in service.rows()}
    assert old.scheduler_id not in ids
    assert audit(map(jobs.job, specs), steps=STEPS).violations == []
    left = slurm("squeue", "-h", "-r", "-j", old.scheduler_id, "-o", "%T").split()
    assert left == ["RUNNING", "RUNNING"]
    service.close()
