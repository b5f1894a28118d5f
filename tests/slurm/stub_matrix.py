"""A matrix of stub jobs in a state directory of its own, moved by the real `orch`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from durable.files import private_dir
from jobs.contract.paths import JobDir, StateDir
from jobs.matrix import load_matrix
from tests.slurm.private_cluster import STUB

ORCH = Path(sys.executable).with_name("orch")
MATRIX = """\
version: 1
name: {name}
defaults:
  model: {{family: decoder, config: {{n_layer: 1, n_embd: 32}}}}
  method: {{name: lora}}
  task: {{name: tsv, path: "package:quickstart"}}
  train: {{steps: {steps}, global_batch: 4}}
seeds: {jobs}
resources: {{memory_gb: {memory}, time_limit_minutes: {minutes}}}
grace_seconds: 5
retry: {{node_failures: 1000, launch_failures: 1000, stalled_minutes: {stalled}}}
"""


class StubMatrix:
    """`jobs` jobs of `steps` steps, whose ranks follow `plan` (see stub_rank).

    `site`: further keys of site.yaml.
    """

    def __init__(
        self,
        root: Path,
        *,
        name: str,
        jobs: int,
        steps: int,
        minutes: int = 30,
        stalled: float = 10.0,
        partition: str = "low",
        memory_gb: float = 0.1,
        site: Mapping[str, Any] | None = None,
        **plan: Any,
    ) -> None:
        self.steps = steps
        self.home = private_dir(root / "orch")
        self.state = StateDir(self.home)
        self.matrix = root / f"{name}.yaml"
        self.matrix.write_text(
            MATRIX.format(
                name=name,
                steps=steps,
                jobs=jobs,
                minutes=minutes,
                stalled=stalled,
                memory=memory_gb,
            )
        )
        shim = root / "python"
        shim.write_text(
            f'#!/bin/sh\ncase "$3" in worker) exec {sys.executable} -P {STUB} "$@" ;; esac\n'
            f'exec {sys.executable} "$@"\n'
        )
        shim.chmod(0o700)
        file = self.home / "site.yaml"
        file.write_text(json.dumps({"partition": partition, "python": str(shim), **(site or {})}))
        file.chmod(0o600)
        self.ids = [spec.id for spec in load_matrix(self.matrix).jobs]
        for job in self.ids:
            directory = private_dir(self.state.job(job).path)
            (directory / "stub.json").write_text(json.dumps(plan))

    def jobs(self) -> list[JobDir]:
        """Return the job directories."""
        return [self.state.job(job) for job in self.ids]

    def orch(self, *words: str, fault: str = "") -> subprocess.CompletedProcess[str]:
        """Run one verb, which may be killed."""
        return subprocess.run(
            [str(ORCH), *words],
            env=self.environment(fault),
            capture_output=True,
            text=True,
            timeout=120,
        )

    def submit(self, *, fault: str = "") -> subprocess.CompletedProcess[str]:
        """Submit the matrix and leave nobody behind."""
        return self.orch(
            "submit", str(self.matrix), "--backend", "slurm", "--no-watch", fault=fault
        )

    def watch(self, *words: str) -> subprocess.Popen[bytes]:
        """Start the loop."""
        with (self.home.parent / "watch.log").open("ab") as log:
            return subprocess.Popen(
                [str(ORCH), "watch", *words], env=self.environment(), stdout=log, stderr=log
            )

    def rows(self) -> list[dict[str, Any]]:
        """Return what `orch status` says of every job."""
        said = self.orch("status", "--json")
        assert said.returncode == 0, said.stdout + said.stderr
        rows: list[dict[str, Any]] = json.loads(said.stdout)["jobs"]
        return rows

    def environment(self, fault: str = "") -> dict[str, str]:
        """Return what the verbs run with."""
        return {**os.environ, "ORCH_HOME": str(self.home), "ORCH_FAULT": fault}
