"""Three cells in one allocation of a real Slurm: one sbatch task, a step and an end for each."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.contract.records import ExitRecord, Outcome, read_record
from orchestrator.devcluster.cluster import PrivateCluster
from tests.contract.packed_verbs import Pack, claims, metrics
from tests.slurm.private_cluster import slurm, take_all_nodes, until

pytestmark = pytest.mark.slurm


def site(root: Path) -> str:
    """Write the site file of the private cluster; return its path."""
    path = root / "site.yaml"
    path.write_text("partition: low\n")
    path.chmod(0o600)
    return str(path)


def test_a_pack_is_preempted_once_and_each_cell_has_its_result(
    slurm_cluster: PrivateCluster, tmp_path: Path
) -> None:
    """Nobody watches the preemption: all cells save, the one task comes back, all go on.

    Then one fails and one is cancelled beside the third; neither starts again with it, and the
    allocation that ends is the one that began: one sbatch call, one task.
    """
    pack = Pack(tmp_path, backend="slurm", ORCH_SITE=site(tmp_path))
    pack.submit()
    rows = pack.all_at_five()
    jobs = [pack.job(row["id"]) for row in rows]
    (token,) = [submission.token for submission in pack.submissions()]
    (task,) = {row["scheduler_id"] for row in rows}
    assert slurm("squeue", "-h", "-r", "-o", "%F_%K").split() == [task]
    steps = slurm("squeue", "-h", "-s", "-o", "%j").split()
    assert {"cell-0", "cell-1", "cell-2"} <= set(steps)

    take_all_nodes(2)

    for job in jobs:
        until(lambda job=job: job.attempt(1).exit_record(0).exists(), "the notice")  # type: ignore[misc]
        record = read_record(job.attempt(1).exit_record(0), ExitRecord)
        assert record is not None
        assert (record.outcome, record.committed_step) == (Outcome.SAVED, 5)
    pack.wait(lambda rows: [r["step"] for r in rows] == [6, 6, 6], "all cells to go on")
    pack.let_go("fail-2", 2)
    pack.wait(lambda rows: rows[1]["state"] == "FAILED", "the failure")
    pack.orch("cancel", "--yes", rows[2]["id"])
    rows = pack.wait(lambda rows: rows[2]["state"] == "CANCELLED", "the cancel")
    assert rows[0]["state"] == "RUNNING"
    pack.let_go(1)
    rows = pack.wait(lambda rows: rows[0]["state"] == "COMPLETED", "the result")

    assert metrics(jobs[0]) == {"done": 10.0, "seed": 1.0}
    assert [(row["attempts"], row["lost_steps"]) for row in rows[:1]] == [(2, 0)]
    told = [
        [(c.token, c.restart_count, f"{c.scheduler_id}_{c.array_task}") for c in claims(job)]
        for job in jobs
    ]
    assert told == [[(token, 0, task), (token, 1, task)]] * 3
    assert len(pack.submissions()) == 1
    until(lambda: not slurm("squeue", "-h").strip(), "the allocation to end")
    assert [row["attempts"] for row in pack.cells()] == [2, 2, 2]
