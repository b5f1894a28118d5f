"""Who brings a job back on a real Slurm: the batch script, without any orchestrator alive."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jobs.contract.records import ExitRecord, read_record
from orchestrator.devcluster.cluster import PrivateCluster
from orchestrator.schedulers.base import Known, TaskKey, TaskState
from tests.slurm.private_cluster import (
    GRACE,
    StubJobs,
    nodes_are_free,
    slurm,
    take_all_nodes,
    until,
)

pytestmark = pytest.mark.slurm
T = TaskState
ROOT = Path(__file__).parents[2]


def start_now(key: TaskKey) -> None:
    """Remove the begin time by hand: no orchestrator lives in these tests.

    In the second of the requeue the node still refuses the task ("credential revoked").
    """
    time.sleep(2)
    slurm("scontrol", "update", f"JobId={key.scheduler_id}_{key.index}", "StartTime=now")


def test_preempted_tasks_come_back_from_each_kind_of_partition(
    slurm_cluster: PrivateCluster, tmp_path: Path
) -> None:
    """REQUEUE and CANCEL with grace, REQUEUE without: saved within grace, requeued, finished."""
    homes = {p: StubJobs(tmp_path / p, p) for p in ("low", "lowcancel", "lownograce")}
    specs = {p: jobs.specs(1, steps=40, seconds_per_step=0.2)[0] for p, jobs in homes.items()}
    keys = {p: homes[p].submit([spec], ranks=2)[0] for p, spec in specs.items()}
    for partition, spec in specs.items():
        homes[partition].started(spec)

    high = take_all_nodes(2)
    freed = until(
        lambda: slurm("squeue", "-h", "-j", high, "-o", "%T").strip() == "RUNNING",
        "the high job to have all nodes",
        every=0.05,
    )

    assert freed < GRACE  # nobody waited for the end of grace
    for partition, jobs in homes.items():
        jobs.wait(keys[partition], T.DELAYED)
        record = read_record(jobs.job(specs[partition]).attempt(1).exit_record(0), ExitRecord)
        assert record is not None
        assert record.committed_step == record.last_step  # no step is lost
    until(lambda: not slurm("squeue", "-h", "-j", high).strip(), "the high job to end")
    for partition, jobs in homes.items():
        assert set(jobs.scheduler.undelay([keys[partition]]).values()) == {None}
    for partition, jobs in homes.items():
        spec, key = specs[partition], keys[partition]
        jobs.wait(key, T.RUNNING, T.COMPLETED, seconds=20)
        end = jobs.wait(key, T.COMPLETED)
        assert end.exit_code == 0
        assert jobs.job(spec).result.exists()
        assert [line.split()[3] for line in jobs.starts(spec)] == ["0", "1"]


def test_a_task_that_ignores_its_notice_is_requeued_by_slurm_after_grace(
    slurm_cluster: PrivateCluster, tmp_path: Path
) -> None:
    """GraceTime=0, PreemptMode=REQUEUE, a rank that does not save: Slurm kills it and requeues."""
    jobs = StubJobs(tmp_path / "orch", "lownograce")
    (spec,) = jobs.specs(1, steps=100, ignore_notice=True)
    (key,) = jobs.submit([spec])
    jobs.started(spec)

    take_all_nodes(1)

    jobs.wait(key, T.DELAYED)
    assert not jobs.job(spec).attempt(1).exit_record(0).exists()


def test_the_last_task_of_an_array_requeues_itself_alone(stub_jobs: StubJobs) -> None:
    """Its raw job id is the array's: `scontrol requeue $SLURM_JOB_ID` would restart siblings."""
    specs = stub_jobs.specs(3, steps=200)
    keys = stub_jobs.submit(specs)
    for spec in specs:
        stub_jobs.started(spec)
    raw = slurm("squeue", "-h", "-r", "-j", keys[0].scheduler_id, "-o", "%K %A").split("\n")
    last = next(int(line.split()[0]) for line in raw if line.endswith(f" {keys[0].scheduler_id}"))

    assert stub_jobs.scheduler.notify(keys[last]) is None

    stub_jobs.wait(keys[last], T.DELAYED)
    for key, spec in zip(keys, specs, strict=True):
        if key is not keys[last]:
            assert stub_jobs.look(key) == stub_jobs.wait(key, T.RUNNING)
            assert len(stub_jobs.starts(spec)) == 1
    assert set(stub_jobs.scheduler.undelay(keys).values()) == {None}
    stub_jobs.started(specs[last], times=2)
    assert [len(stub_jobs.starts(spec)) for spec in specs].count(1) == 2


def test_a_worker_without_progress_is_stopped_after_three_restarts(stub_jobs: StubJobs) -> None:
    """It leaves with 75 at once, again and again; no watcher lives; the reason is in the output."""
    (spec,) = stub_jobs.specs(1, leave_at_once=True)
    (key,) = stub_jobs.submit([spec])

    for restart in (1, 2, 3):
        stub_jobs.wait(key, T.DELAYED)
        start_now(key)
        stub_jobs.started(spec, times=restart + 1)
    end = stub_jobs.wait(key, T.FAILED)

    assert end.exit_code == 75
    assert len(stub_jobs.starts(spec)) == 4
    assert "orch: stop: no progress" in stub_jobs.output(key)


def test_with_an_orchestrator_alive_it_is_stopped_just_as_early(stub_jobs: StubJobs) -> None:
    """The reconciler agrees with the script and does not submit what the script has stopped."""
    specs = stub_jobs.specs(1, leave_at_once=True)
    (stub_jobs.home / "specs.jsonl").write_bytes(specs[0].to_json())
    argv = [sys.executable, "-m", "tests.slurm.orchestrator_child", str(stub_jobs.home), "submit"]

    done = subprocess.run(argv, capture_output=True, text=True, timeout=150, cwd=ROOT)

    assert done.returncode == 0, done.stderr
    assert [(row["state"], row["attempts"]) for row in json.loads(done.stdout)] == [("FAILED", 4)]
    assert len(stub_jobs.starts(specs[0])) == 4


def test_a_persons_scancel_is_not_undone(stub_jobs: StubJobs) -> None:
    """The ranks save and leave with 75 as at a preemption; the task stays cancelled."""
    (spec,) = stub_jobs.specs(1, steps=200)
    (key,) = stub_jobs.submit([spec], ranks=2)
    stub_jobs.started(spec)

    slurm("scancel", f"{key.scheduler_id}_{key.index}")

    end = stub_jobs.wait(key, T.CANCELLED)
    assert end.by_person
    assert "orch: stop: it was cancelled" in stub_jobs.output(key)
    assert len(stub_jobs.starts(spec)) == 1


def test_our_own_cancel_is_not_undone_by_a_preemption(stub_jobs: StubJobs) -> None:
    """Cancelled within a preemption's grace: Slurm's record alone would allow the requeue."""
    (spec,) = stub_jobs.specs(1, steps=200, seconds_to_save=3)
    (key,) = stub_jobs.submit([spec])
    stub_jobs.started(spec)
    take_all_nodes(1)
    until(
        lambda: "PreemptTime=2" in slurm("scontrol", "show", "job", f"{key.scheduler_id}_0"),
        "the preemption to begin",
    )

    assert stub_jobs.scheduler.cancel([key]) == {key: None}

    assert stub_jobs.wait(key, T.CANCELLED, T.PREEMPTED).state is T.CANCELLED
    assert len(stub_jobs.starts(spec)) == 1


def test_a_task_at_its_time_limit_comes_back(stub_jobs: StubJobs) -> None:
    """SIGTERM at the limit, KillWait to save, requeue; also the limit is no failure."""
    (spec,) = stub_jobs.specs(1, steps=10_000, seconds_per_step=0.2)
    (key,) = stub_jobs.submit([spec], ranks=2, resources={"time_limit_minutes": 1})
    stub_jobs.started(spec)

    stub_jobs.wait(key, T.DELAYED, seconds=120)

    record = read_record(stub_jobs.job(spec).attempt(1).exit_record(0), ExitRecord)
    assert record is not None
    assert record.committed_step == record.last_step > 100
    assert "orch: again:" in stub_jobs.output(key)


def test_a_killed_task_is_over_and_its_script_says_so(stub_jobs: StubJobs) -> None:
    """`kill` ends the ranks at once; the reconciler decides what follows."""
    (spec,) = stub_jobs.specs(1, steps=200, ignore_notice=True)
    (key,) = stub_jobs.submit([spec], ranks=2)
    stub_jobs.started(spec)

    assert stub_jobs.scheduler.notify(key) is None
    assert isinstance(stub_jobs.look(key), Known)
    assert stub_jobs.scheduler.kill(key) is None

    assert stub_jobs.wait(key, T.FAILED, T.COMPLETED, T.CANCELLED).state is T.FAILED


def test_two_ranks_on_two_nodes_know_their_places(stub_jobs: StubJobs) -> None:
    """resources.nodes: 2 gives one rank a node, and the worker reads it from the environment."""
    (spec,) = stub_jobs.specs(1, steps=2)
    (key,) = stub_jobs.submit([spec], ranks=2, resources={"nodes": 2})

    stub_jobs.wait(key, T.COMPLETED)

    places = sorted((stub_jobs.job(spec).path / "ranks.log").read_text().splitlines())
    assert places == [
        "0 of 2 on ('n1', 'n2') local 0",
        "1 of 2 on ('n1', 'n2') local 0",
    ]


def test_the_sites_lines_run_and_the_submitters_secrets_do_not_arrive(
    slurm_cluster: PrivateCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--export=NONE`: what the ranks need comes from site.yaml; slurmctld keeps no secret."""
    monkeypatch.setenv("WANDB_API_KEY", "s3cret")
    seen = tmp_path / "environment"
    jobs = StubJobs(tmp_path / "orch", setup=["export FROM_SITE=yes", f"env > {seen}"])
    (spec,) = jobs.specs(1, steps=1)
    (key,) = jobs.submit([spec])

    jobs.wait(key, T.COMPLETED)

    environment = dict(line.partition("=")[::2] for line in seen.read_text().splitlines())
    assert environment["FROM_SITE"] == "yes"
    assert "WANDB_API_KEY" not in environment
    state = [p for p in slurm_cluster.paths.controller_state.rglob("*") if p.is_file()]
    assert not any(b"s3cret" in path.read_bytes() for path in state)
    assert json.loads(jobs.job(spec).result.read_text())["epoch"] == 1
    until(nodes_are_free, "the nodes to be free")
