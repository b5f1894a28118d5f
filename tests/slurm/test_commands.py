"""Command jobs on a real Slurm: the notice reaches the program, and it comes back."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.contract.records import EpochRecord, ExitRecord, Outcome, read_record
from orchestrator.devcluster.cluster import PrivateCluster
from tests.contract.command_verbs import Desktop, preempt_edit_and_finish
from tests.slurm.private_cluster import take_all_nodes, until

pytestmark = pytest.mark.slurm


def desktop(root: Path, partition: str = "low") -> Desktop:
    """Return a person's directory whose site is the private cluster."""
    root.mkdir(exist_ok=True)
    (root / "site.yaml").write_text(f"partition: {partition}\n")
    (root / "site.yaml").chmod(0o600)
    return Desktop(root, backend="slurm", ORCH_SITE=str(root / "site.yaml"))


def test_a_command_is_preempted_by_the_verb_and_finishes(
    slurm_cluster: PrivateCluster, tmp_path: Path
) -> None:
    """Saved within grace, requeued by its own batch script, the snapshot's code to the end."""
    job = preempt_edit_and_finish(desktop(tmp_path / "desk"))

    first, second = (read_record(job.epoch(n), EpochRecord) for n in (1, 2))
    assert first is not None
    assert second is not None
    assert second.token == first.token  # Slurm brought it back, not a new submission
    assert second.restart_count == 1
    assert first.packages == second.packages


def test_a_command_is_preempted_by_the_site_with_nobody_watching(
    slurm_cluster: PrivateCluster, tmp_path: Path
) -> None:
    """PreemptMode=REQUEUE: Slurm's own SIGTERM to every process leaves a saved state."""
    desk = desktop(tmp_path / "desk")
    desk.submit()
    row = desk.until(lambda row: row["step"] == 5, "step 5")
    job = desk.job(row["id"])

    take_all_nodes(2)

    until(lambda: job.attempt(1).exit_record(0).exists(), "the first attempt to end")
    record = read_record(job.attempt(1).exit_record(0), ExitRecord)
    assert record is not None
    assert (record.outcome, record.committed_step) == (Outcome.SAVED, 5)
    row = desk.until(lambda row: row["state"] == "COMPLETED", "the result")
    assert (row["attempts"], row["lost_steps"]) == (2, 0)
