"""The watcher as a Slurm job: it finishes the matrix with nobody else alive, and leaves."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from durable.clock import SystemClock
from jobs.contract.records import read_record
from jobs.states import JobState
from orchestrator.cli.remembered import RememberedChoice, remember_choice
from orchestrator.devcluster.cluster import PrivateCluster
from orchestrator.lease import read_watcher
from orchestrator.service import Service
from orchestrator.watcher_job import WatcherJobRecord, record_file
from tests.contract.stub import make_matrix
from tests.slurm.private_cluster import StubJobs, slurm, take_all_nodes, until

pytestmark = pytest.mark.slurm


class Study:
    """Stub jobs that were submitted with nobody left to watch them."""

    def __init__(self, folder: Path, **plan: object) -> None:
        self.jobs = StubJobs(folder / "orch", "lowcancel")
        self.home = self.jobs.home
        self.site = folder / "site.yaml"
        values = self.jobs.site.model_dump(exclude_defaults=True, mode="json")
        values["watcher"] = {"partition": "low", "memory_mb": 200}
        self.site.write_text(yaml.safe_dump(values))
        self.site.chmod(0o600)
        remember_choice(self.home, RememberedChoice(backend="slurm", site=str(self.site)))
        self.specs = self.jobs.specs(3, **plan)
        service = Service.open(self.home, scheduler=self.jobs.scheduler)
        service.submit([make_matrix(self.specs)])
        service.close()

    def orch(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a verb."""
        return subprocess.run(
            [sys.executable, "-P", "-m", "orchestrator", *words],
            env={**os.environ, "ORCH_HOME": str(self.home)},
            capture_output=True,
            text=True,
            timeout=180,
        )

    def states(self) -> set[JobState]:
        """Return the states of the jobs as the store has them."""
        service = Service.open(self.home)
        try:
            return {row.state for row in service.rows()}
        finally:
            service.close()

    @property
    def watcher(self) -> str:
        """The watcher job, as Slurm names it."""
        record = read_record(record_file(self.jobs.state), WatcherJobRecord)
        assert record is not None
        return f"{record.scheduler_id}_0"

    def word(self) -> str:
        """Return Slurm's state of the watcher job; empty when the queue has it no more."""
        done = subprocess.run(
            ["squeue", "-h", "-j", self.watcher, "-o", "%T"], capture_output=True, text=True
        )
        return done.stdout.strip()

    def lives(self) -> bool:
        """Return whether a watcher holds the lease."""
        return read_watcher(self.jobs.state, SystemClock()).alive


def begin_at_once(task: str) -> None:
    """Spare the test the two minutes that a requeued job waits."""
    until(lambda: slurm("squeue", "-h", "-j", task, "-o", "%r").strip() == "BeginTime", task)
    slurm("scontrol", "update", f"JobId={task}", "StartTime=now+4")


def test_a_watcher_job_survives_a_preemption_finishes_the_matrix_and_leaves(
    slurm_cluster: PrivateCluster, tmp_path: Path
) -> None:
    """Everything is preempted at once, the watcher too; no command is given after --as-job."""
    study = Study(tmp_path, steps=60, seconds_per_step=0.5)
    begun = study.orch("watch", "--as-job")
    assert begun.returncode == 0, begun.stderr
    assert study.watcher.partition("_")[0] in begun.stderr
    for spec in study.specs:
        study.jobs.started(spec)
    until(study.lives, "the watcher job to hold the lease")
    again = study.orch("watch", "--as-job")
    assert f"{study.watcher.partition('_')[0]} already" in again.stderr
    assert study.orch("tick", "--quiet").returncode == 5

    take_all_nodes(2)
    until(lambda: not study.lives(), "the watcher to be gone", seconds=90)
    begin_at_once(study.watcher)

    until(study.lives, "the watcher to be back", seconds=90)
    until(lambda: study.states() == {JobState.COMPLETED}, "the matrix to end", seconds=240)
    until(lambda: study.word() in ("", "COMPLETED"), "the watcher job to end by itself")
    assert len(slurm("squeue", "-h", "-o", "%i").split()) == 0
    assert all(len(study.jobs.starts(spec)) == 2 for spec in study.specs)


def test_it_is_told_to_leave_and_stays_away(slurm_cluster: PrivateCluster, tmp_path: Path) -> None:
    """`--stop` from another process ends it for good; the jobs go on."""
    study = Study(tmp_path, steps=2000)
    assert study.orch("watch", "--as-job").returncode == 0
    until(study.lives, "the watcher job to hold the lease")

    stopped = study.orch("watch", "--stop")

    assert stopped.returncode == 0, stopped.stderr
    assert "has left" in stopped.stderr
    until(lambda: study.word() in ("", "COMPLETED", "CANCELLED"), "the watcher job to end")
    assert not study.lives()
    assert "RUNNING" in slurm("squeue", "-h", "-o", "%T")


def test_near_its_time_limit_it_requeues_itself(
    slurm_cluster: PrivateCluster, tmp_path: Path
) -> None:
    """The signal before the limit reaches the script alone; the watcher leaves in peace."""
    study = Study(tmp_path, steps=2000)
    assert study.orch("watch", "--as-job").returncode == 0
    until(study.lives, "the watcher job to hold the lease")

    slurm("scancel", "--batch", "--signal=USR2", study.watcher)

    until(lambda: study.word() == "PENDING", "the watcher job to wait for its return")
    assert not study.lives()
    until(lambda: study.word() == "PENDING", "it to stay")
    begin_at_once(study.watcher)
    until(study.lives, "the watcher to be back", seconds=90)
    assert study.orch("watch", "--stop").returncode == 0
