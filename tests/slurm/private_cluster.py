"""One private Slurm for a whole test process, and jobs of the stub rank on it.

`from tests.slurm.private_cluster import slurm_cluster  # noqa: F401` gives a module the fixture;
however many modules do, there is one cluster. Where none can be started the tests are skipped,
visibly; in CI they fail.
"""

from __future__ import annotations

import atexit
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from durable.files import private_dir
from jobs.contract.paths import JobDir, StateDir
from jobs.contract.records import TaskRecord, TasksRecord
from jobs.spec import JobSpec
from orchestrator.devcluster.cluster import PrivateCluster, missing
from orchestrator.devcluster.config import ClusterOptions
from orchestrator.schedulers.base import Accepted, Answer, Known, SubmitRequest, TaskKey, TaskState
from orchestrator.schedulers.slurm import SlurmScheduler
from orchestrator.site_schema import Site
from tests.contract.stub import make_spec

GRACE, KILL_WAIT, NODES = 20, 5, 4
STUB = Path(__file__).with_name("stub_rank.py")


@cache
def private_cluster() -> PrivateCluster | str:
    """Return the cluster of this process, started at the first call, or why there is none."""
    return start_cluster(ClusterOptions(nodes=NODES, grace=GRACE, kill_wait=KILL_WAIT))


def start_cluster(options: ClusterOptions) -> PrivateCluster | str:
    """Start a cluster that ends with this process, or return why there can be none."""
    why_not = missing()
    if why_not is not None:
        return why_not
    # not below pytest's own directory: user munge could not enter it
    root = Path(tempfile.mkdtemp(prefix="orch-slurm-", dir="/var/tmp"))
    root.chmod(0o755)
    cluster = PrivateCluster(root, say=lambda line: print(line, file=sys.stderr))
    # Ends the cluster as soon as this process is gone, however it went: its pipe is then closed.
    down = f"cat; exec {sys.executable} -P -m orchestrator.devcluster down --purge --dir {root}"
    guard = subprocess.Popen(["sh", "-c", down], stdin=subprocess.PIPE, start_new_session=True)
    atexit.register(guard.communicate)
    cluster.up(options)
    return cluster


@pytest.fixture
def slurm_cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[PrivateCluster]:
    """The run's private Slurm, with SLURM_CONF set; no job is left behind."""
    yield point_at(private_cluster(), monkeypatch)
    clear()


def point_at(cluster: PrivateCluster | str, monkeypatch: pytest.MonkeyPatch) -> PrivateCluster:
    """Let Slurm's commands speak to this cluster; skip, in CI fail, where there is none."""
    if isinstance(cluster, str):
        if os.environ.get("CI"):
            pytest.fail(f"CI must run the Slurm tests, but {cluster}")
        pytest.skip(cluster)
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SLURM_CONF", str(cluster.paths.slurm_conf))
    return cluster


def slurm(*argv: str) -> str:
    """Run one of Slurm's commands; return what it printed."""
    done = subprocess.run(list(argv), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
    return done.stdout


def clear() -> None:
    """End every job of the cluster and wait until its nodes are free."""
    ids = slurm("squeue", "--noheader", "--array", "--format=%F_%K").replace("_N/A", "").split()
    if ids:
        subprocess.run(["scontrol", "update", f"JobId={','.join(ids)}", "Requeue=0"], check=False)
        subprocess.run(["scancel", "--signal=KILL", "--full", *ids], check=False)
        subprocess.run(["scancel", *ids], check=False)
    until(lambda: not slurm("squeue", "--noheader").strip(), "the queue to be empty")
    until(nodes_are_free, "the nodes to be free")


def nodes_are_free() -> bool:
    """Return whether every node is idle."""
    return set(slurm("sinfo", "-h", "-p", "low", "-o", "%t").split()) == {"idle"}


def until(
    condition: Callable[[], object], what: str, *, seconds: float = 60, every: float = 0.1
) -> float:
    """Wait for a condition; return the seconds it took."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, f"waited {seconds:g} s for {what}"
        time.sleep(every)
    return time.monotonic() - started


def take_all_nodes(seconds: float) -> str:
    """Submit the `high` job that preempts everything; return its id."""
    return slurm(
        "sbatch",
        "--parsable",
        "--partition=high",
        f"--nodes={NODES}",
        "--exclusive",
        "--output=/dev/null",
        f"--wrap=sleep {seconds:g}",
    ).strip()


class StubJobs:
    """Jobs of the stub rank in a state directory, submitted by the real scheduler."""

    def __init__(self, home: Path, partition: str = "low", **site: Any) -> None:
        self.home = private_dir(home)
        self.state = StateDir(home)
        shim = home / "python"
        shim.write_text(
            f'#!/bin/sh\ncase "$3" in worker) exec {sys.executable} -P {STUB} "$@" ;; esac\n'
            f'exec {sys.executable} "$@"\n'
        )
        shim.chmod(0o700)
        self.site = Site.model_validate(
            {"partition": partition, "python": str(shim), "rank_timeout_seconds": 5, **site}
        )
        self.scheduler = SlurmScheduler(home, site=self.site)

    def specs(
        self, count: int, *, run: Mapping[str, Any] | None = None, **plan: Any
    ) -> list[JobSpec]:
        """Return jobs whose stub ranks follow `plan` (see stub_rank); `run`: of their specs."""
        steps = int(plan.pop("steps", 6))
        made = [
            make_spec(secrets.randbelow(1 << 30), steps=steps, **(run or {})) for _ in range(count)
        ]
        for spec in made:
            job = self.state.job(spec.id)
            private_dir(job.path)
            job.spec.write_bytes(spec.to_json())
            (job.path / "stub.json").write_text(json.dumps(plan))
        return made

    def request(self, specs: Sequence[JobSpec], **changes: Any) -> SubmitRequest:
        """Write a submission's directory and return its request."""
        token = secrets.token_hex(8)
        directory = private_dir(self.state.submission(token).path)
        tasks = TasksRecord(
            token=token,
            scheduler="slurm",
            tasks=tuple(TaskRecord(index=i, job=spec.id) for i, spec in enumerate(specs)),
        )
        (directory / "tasks.json").write_bytes(tasks.to_json())
        resources = {"memory_gb": 0.1, "time_limit_minutes": 30, **changes.pop("resources", {})}
        values: dict[str, Any] = {
            "ranks": 1,
            "threads_per_rank": 1,
            "grace_seconds": 5.0,
            **changes,
        }
        return SubmitRequest(
            token=token,
            matrix_name="stub",
            directory=str(directory),
            tasks=tasks,
            resources=specs[0].run.resources.model_copy(update=resources),
            **values,
        )

    def submit(self, specs: Sequence[JobSpec], **changes: Any) -> list[TaskKey]:
        """Submit one task a job; return their keys."""
        request = self.request(specs, **changes)
        outcome = self.scheduler.submit(request)
        assert isinstance(outcome, Accepted), outcome
        return [
            TaskKey(token=request.token, scheduler_id=outcome.scheduler_id, index=index)
            for index in range(len(specs))
        ]

    def job(self, spec: JobSpec) -> JobDir:
        """Return a job's directory."""
        return self.state.job(spec.id)

    def look(self, key: TaskKey) -> Answer:
        """Ask for one task."""
        return self.scheduler.observe([key]).answers[key]

    def wait(self, key: TaskKey, *states: TaskState, seconds: float = 60) -> Known:
        """Wait until a task is in one of the states."""
        seen: list[Known] = []
        said: list[str] = [""]

        def there() -> bool:
            answer = self.look(key)
            if str(answer) != said[-1]:
                said.append(str(answer))
            if isinstance(answer, Known) and answer.state in states:
                seen.append(answer)
            return bool(seen)

        what = f"{key.scheduler_id}_{key.index} to be {states}"
        try:
            until(there, what, seconds=seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}; Slurm said in turn {said[1:]}") from error
        return seen[-1]

    def started(self, spec: JobSpec, times: int = 1) -> None:
        """Wait until a job's stub has begun so many attempts."""
        until(lambda: len(self.starts(spec)) >= times, f"start {times} of {spec.id}")

    def starts(self, spec: JobSpec) -> list[str]:
        """Return one line for each attempt that began: restart count, host, signals it knows."""
        log = self.job(spec).path / "starts.log"
        return log.read_text().splitlines() if log.exists() else []

    def node(self, key: TaskKey) -> str:
        """Return where a task runs; empty while it does not."""
        task = f"{key.scheduler_id}_{key.index}"
        return slurm("squeue", "-h", "-r", "-j", task, "-o", "%N").strip()

    def output(self, key: TaskKey) -> str:
        """Return what the batch script of a task printed."""
        path = self.state.submission(key.token).path / f"{key.scheduler_id}_{key.index}.out"
        return path.read_text() if path.exists() else ""
