"""kill -9 of the orchestrator around a real sbatch: the same jobs, none twice, none lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from durable.files import private_dir
from jobs.contract.paths import StateDir
from jobs.matrix import load_matrix
from orchestrator.devcluster.cluster import PrivateCluster
from tests.slurm.private_cluster import STUB, until

pytestmark = [pytest.mark.slurm, pytest.mark.crash, pytest.mark.timeout(400)]

ORCH = Path(sys.executable).with_name("orch")
MATRIX = """\
version: 1
name: crash
defaults:
  model: {family: decoder, config: {n_layer: 1, n_embd: 32}}
  method: {name: lora}
  task: {name: tsv, path: "package:quickstart"}
  train: {steps: 4, global_batch: 4}
seeds: 3
resources: {memory_gb: 0.1, time_limit_minutes: 10}
"""
# After sbatch, when its id is known to nobody; and in the tick that follows. The points before
# sbatch, where a quiet time must pass first, are in test_crashes.py.
POINTS = ("handover.submitted", "apply.before_commit")


class Killed:
    """A matrix whose submission is killed at a point, in a state directory of its own."""

    def __init__(self, root: Path, point: str) -> None:
        self.point = point
        self.home = private_dir(root / "orch")
        self.state = StateDir(self.home)
        self.matrix = root / "crash.yaml"
        self.matrix.write_text(MATRIX)
        shim = root / "python"
        shim.write_text(
            f'#!/bin/sh\ncase "$3" in worker) exec {sys.executable} -P {STUB} "$@" ;; esac\n'
            f'exec {sys.executable} "$@"\n'
        )
        shim.chmod(0o700)
        site = self.home / "site.yaml"
        site.write_text(f"partition: low\npython: {shim}\n")
        site.chmod(0o600)
        self.ids = [spec.id for spec in load_matrix(self.matrix).jobs]
        for job in self.ids:
            (private_dir(self.state.job(job).path) / "stub.json").write_text("{}")

    def orch(self, *words: str, fault: str = "") -> subprocess.CompletedProcess[str]:
        """Run one verb, which may be killed."""
        environment = {**os.environ, "ORCH_HOME": str(self.home), "ORCH_FAULT": fault}
        return subprocess.run(
            [str(ORCH), *words], env=environment, capture_output=True, text=True, timeout=120
        )

    def submit(self, *, fault: str = "") -> subprocess.CompletedProcess[str]:
        return self.orch(
            "submit", str(self.matrix), "--backend", "slurm", "--no-watch", fault=fault
        )

    def states(self) -> dict[str, str]:
        """Tick, and return the state of each job."""
        self.orch("tick")
        document = json.loads(self.orch("status", "--json").stdout)
        return {job["id"]: job["state"] for job in document["jobs"]}

    def attempts(self) -> dict[str, int]:
        """Return how many attempts really began, by the stub's own log."""
        logs = {job: self.state.job(job).path / "starts.log" for job in self.ids}
        return {job: len(log.read_text().splitlines()) for job, log in logs.items()}


def test_a_killed_submission_is_finished_and_nothing_runs_twice(
    slurm_cluster: PrivateCluster, tmp_path: Path
) -> None:
    """What Slurm knows is adopted by its token; only what it surely lacks is sent again."""
    killed = [Killed(private_dir(tmp_path / str(n)), point) for n, point in enumerate(POINTS)]
    for case in killed:
        died = case.submit(fault=f"{case.point}:kill")
        if died.returncode == 0:  # a point of the tick after the hand-over
            died = case.orch("tick", fault=f"{case.point}:kill")
        assert died.returncode == -signal.SIGKILL, (case.point, died.stdout, died.stderr)

    for case in killed:
        assert case.submit().returncode == 0, case.point
    for case in killed:
        until(
            lambda case=case: set(case.states().values()) == {"COMPLETED"},
            f"the jobs killed at {case.point}",
            seconds=150,
            every=3,
        )

    for case in killed:
        assert sorted(case.states()) == sorted(case.ids)
        assert case.attempts() == dict.fromkeys(case.ids, 1), case.point
