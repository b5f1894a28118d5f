"""Fault points of submitting to and cancelling at a real Slurm: killed there, started again.

The same through the command line, at other points: test_orchestrator_crash.py.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from jobs.spec import JobSpec
from orchestrator.devcluster.cluster import PrivateCluster
from orchestrator.fault_points import FAULT_POINTS
from tests.slurm.private_cluster import StubJobs, slurm, until

pytestmark = [pytest.mark.slurm, pytest.mark.crash]
ROOT = Path(__file__).parents[2]
COUNT = 2


def run(home: Path, fault: str = "", verb: str = "submit") -> subprocess.CompletedProcess[str]:
    """Run the child to its end."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ORCH_")}
    return subprocess.run(
        [sys.executable, "-m", "tests.slurm.orchestrator_child", str(home), verb],
        cwd=ROOT,
        env={**environment, "ORCH_FAULT": fault},
        capture_output=True,
        text=True,
        timeout=150,
    )


def prepared(tmp_path: Path, **plan: Any) -> tuple[StubJobs, list[JobSpec]]:
    """Return a state directory that knows its stub jobs."""
    jobs = StubJobs(tmp_path / "orch")
    specs = jobs.specs(COUNT, **plan)
    (jobs.home / "specs.jsonl").write_bytes(b"".join(spec.to_json() for spec in specs))
    return jobs, specs


POINTS = ["slurm.script_written", "slurm.before_sbatch", "slurm.after_sbatch", "handover.settled"]


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_a_point_of_submission_every_job_runs_once(
    slurm_cluster: PrivateCluster, tmp_path: Path, point: str
) -> None:
    """Same jobs, none twice, none lost; what sbatch took is found by its token."""
    jobs, specs = prepared(tmp_path, steps=8)

    killed = run(jobs.home, f"{point}:kill")
    again = run(jobs.home)

    assert killed.returncode == -9, killed.stderr
    assert again.returncode == 0, again.stderr
    assert {row["state"] for row in json.loads(again.stdout)} == {"COMPLETED"}
    assert [len(jobs.starts(spec)) for spec in specs] == [1] * COUNT
    submitted = slurm("squeue", "-h", "-t", "all", "-r", "-o", "%j %T").splitlines()
    tokens = {path.name for path in jobs.state.submissions.iterdir()}
    ours = [line for line in submitted if line.split()[0].removeprefix("orch:") in tokens]
    assert len(ours) == COUNT


def test_killed_before_scancel_the_next_run_cancels(
    slurm_cluster: PrivateCluster, tmp_path: Path
) -> None:
    """The wish was durable; the tasks end and stay ended."""
    jobs, specs = prepared(tmp_path, steps=100_000)

    killed = run(jobs.home, "slurm.before_scancel:kill", verb="cancel")
    again = run(jobs.home, verb="watch")

    assert killed.returncode == -9, killed.stderr
    assert again.returncode == 0, again.stderr
    states = {row["state"] for row in json.loads(again.stdout)}
    assert states == {"CANCELLED"}, again.stdout
    until(lambda: not slurm("squeue", "-h").strip(), "the queue to be empty")
    assert [len(jobs.starts(spec)) for spec in specs] == [1] * COUNT


def test_every_slurm_point_is_tried() -> None:
    """The sample holds all points of this scheduler."""
    own = {name for name in FAULT_POINTS if name.startswith("slurm.")}

    assert own <= {*POINTS, "slurm.before_scancel"}
