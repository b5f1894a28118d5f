"""Two live copies of one job on a real Slurm: only the newest epoch commits (V8)."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from durable.processes import ProcessIdentity
from jobs.contract.records import EpochRecord, ExitRecord, Outcome, read_record
from jobs.spec import JobSpec
from orchestrator.devcluster.cluster import PrivateCluster
from orchestrator.schedulers.base import TaskKey, TaskState
from tests.slurm.audit import audit
from tests.slurm.private_cluster import StubJobs, slurm, until

pytestmark = pytest.mark.slurm
T = TaskState
STEPS = 80


def holder(jobs: StubJobs, spec: JobSpec, epoch: int) -> ProcessIdentity:
    """Return the process that claimed an epoch."""
    claim = read_record(jobs.job(spec).epoch(epoch), EpochRecord)
    assert claim is not None
    return ProcessIdentity(claim.boot_id, claim.pid, claim.pid_start)


@contextmanager
def out_of_reach(cluster: PrivateCluster, key: TaskKey, node: str) -> Iterator[None]:
    """A node that slurmctld does not reach while its ranks live on; reached again afterwards.

    slurmd gets SIGKILL. srun stands still: it hears slurmctld by itself and would end the ranks.
    """
    name, sruns = f"slurmd.{node}", sruns_of(key)
    assert sruns
    for srun in sruns:
        srun.signal(signal.SIGSTOP)
    os.kill(cluster.daemon_pid(name), signal.SIGKILL)
    try:
        yield
    finally:
        for srun in sruns:
            srun.signal(signal.SIGCONT)
        until(lambda: name not in cluster.status().daemons, "its end")
        cluster.start_daemon(name)


def sruns_of(key: TaskKey) -> list[ProcessIdentity]:
    """Return the processes of a submission's srun."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes() if entry.name.isdecimal() else b""
        except OSError:  # it ended
            continue
        if Path(words.split(b"\0")[0].decode()).name == "srun" and key.token.encode() in words:
            found.append(ProcessIdentity.of(int(entry.name)))
    return [identity for identity in found if identity is not None]


def second_copy(jobs: StubJobs, spec: JobSpec, key: TaskKey, node: str) -> None:
    """Let slurmctld find the node dead and start the task again on another one."""
    # What SlurmdTimeout does after its time, now.
    slurm("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=silent")

    def began() -> bool:
        jobs.scheduler.undelay([key])  # a refusal means that it has begun just now
        return len(jobs.starts(spec)) == 2

    until(began, "the second copy to begin", every=1)


def is_over_as_fenced(jobs: StubJobs, spec: JobSpec, key: TaskKey) -> None:
    """The older copy said why it left; the newer one's result is that of a whole run."""
    jobs.wait(key, T.COMPLETED, seconds=150)
    record = read_record(jobs.job(spec).attempt(1).exit_record(0), ExitRecord)
    assert record is not None
    assert (record.outcome, record.exit_code) == (Outcome.FENCED, 1), record
    assert "epoch 2 holds the job" in (jobs.job(spec).path / "fenced.log").read_text()
    found = audit([jobs.job(spec)], steps=STEPS)
    assert found.violations == []
    assert (found.results, found.published, found.attempts, found.fenced) == (1, 1, 2, 1)
    assert len(jobs.starts(spec)) == 2  # the older copy's script did not ask for a third


def test_a_node_that_only_looked_dead_leaves_two_copies_and_one_commits(
    slurm_cluster: PrivateCluster, stub_jobs: StubJobs
) -> None:
    """slurmd killed under a running task: same job id twice, the newer epoch alone commits."""
    # Slow enough to be at work still when the second copy begins; its own words say that it was.
    (spec,) = stub_jobs.specs(1, steps=STEPS, seconds_per_step=0.3, save_every=40)
    (key,) = stub_jobs.submit([spec])
    stub_jobs.started(spec)
    older = holder(stub_jobs, spec, 1)
    node = stub_jobs.node(key)

    with out_of_reach(slurm_cluster, key, node):
        second_copy(stub_jobs, spec, key, node)
        assert stub_jobs.node(key) != node
        until(lambda: not older.alive(), "the older copy to find out at its next save")
    is_over_as_fenced(stub_jobs, spec, key)


def test_a_stopped_rank_continued_after_its_replacement_began_commits_nothing(
    slurm_cluster: PrivateCluster, stub_jobs: StubJobs
) -> None:
    """It stands still while its node is given up, and goes on when the replacement has saved."""
    (spec,) = stub_jobs.specs(1, steps=STEPS, seconds_per_step=0.1, save_every=20)
    (key,) = stub_jobs.submit([spec])
    stub_jobs.started(spec)
    older = holder(stub_jobs, spec, 1)
    node = stub_jobs.node(key)
    older.signal(signal.SIGSTOP)

    with out_of_reach(slurm_cluster, key, node):
        second_copy(stub_jobs, spec, key, node)
        until(lambda: commits(stub_jobs.job(spec).path, 2), "a commit of the newer copy")
        older.signal(signal.SIGCONT)
        until(lambda: not older.alive(), "the older copy to leave")
    is_over_as_fenced(stub_jobs, spec, key)


def commits(job: Path, epoch: int) -> int:
    """Return how many checkpoints an epoch committed."""
    log = job / "commits.log"
    lines = log.read_text().splitlines() if log.exists() else []
    return sum(line.split()[0] == str(epoch) for line in lines)
