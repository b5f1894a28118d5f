"""PreemptMode=SUSPEND: a task that stands still for a while is neither stalled nor over."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from jobs.states import JobState
from orchestrator.devcluster.cluster import PrivateCluster
from orchestrator.devcluster.config import ClusterOptions
from orchestrator.schedulers.base import TaskKey, TaskState
from orchestrator.service import Service
from tests.contract.stub import make_matrix
from tests.slurm.audit import audit
from tests.slurm.private_cluster import StubJobs, clear, point_at, slurm, start_cluster, until

pytestmark = pytest.mark.slurm
STEPS = 30
STALLED_SECONDS, SUSPENDED_SECONDS = 6.0, 14


@cache
def suspending_cluster() -> PrivateCluster | str:
    """Start a cluster whose partition `low` is suspended for `high`, once."""
    options = ClusterOptions(nodes=1, preempt_mode="SUSPEND", extra={"PreemptMode": "SUSPEND,GANG"})
    return start_cluster(options)


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[StubJobs]:
    """Jobs on it; none is left behind."""
    point_at(suspending_cluster(), monkeypatch)
    yield StubJobs(tmp_path / "orch")
    clear()


def test_a_suspended_task_goes_on_where_it_stood(jobs: StubJobs) -> None:
    """Suspended for longer than what makes a job stalled: one attempt, every step once."""
    retry = {"stalled_minutes": STALLED_SECONDS / 60}
    (spec,) = jobs.specs(1, run={"retry": retry}, steps=STEPS, seconds_per_step=0.2)
    service = Service.open(jobs.home, scheduler=jobs.scheduler, tick_seconds=0.5)
    service.submit([make_matrix([spec])])
    jobs.started(spec)

    slurm(
        *("sbatch", "--partition=high", "--ntasks=4", "--mem=400", "--output=/dev/null"),
        f"--wrap=sleep {SUSPENDED_SECONDS}",
    )

    reasons = []

    def seen(word: str) -> bool:
        service.tick()
        (row,) = service.rows()
        reasons.append(row.reason)
        return word in (row.reason, row.state) or row.reason.startswith(word)

    until(lambda: seen(TaskState.SUSPENDED), "the job to be suspended", every=0.5)
    (row,) = service.rows()
    assert row.state is JobState.RUNNING
    assert row.scheduler_id is not None
    key = TaskKey(
        token=service.store.live_tasks()[0]["token"],
        scheduler_id=row.scheduler_id.partition("_")[0],
        index=0,
    )
    jobs.wait(key, TaskState.SUSPENDED)
    until(lambda: seen(JobState.COMPLETED), "the result", every=0.5)

    (row,) = service.rows()
    assert (row.attempts, row.preemptions) == (1, 0)
    assert not [e for e in service.events() if e.kind == "stop"]
    found = audit([jobs.job(spec)], steps=STEPS)
    assert (found.violations, found.attempts, found.replayed) == ([], 1, 0)
    service.close()
