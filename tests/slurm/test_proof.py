"""Real trainings on a real Slurm, preempted by a job that takes all nodes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.devcluster.cluster import PrivateCluster
from tests.slurm.private_cluster import GRACE
from tests.slurm.proof import SCENARIOS, Proof, references
from worker.forkserver import ForkServer

pytestmark = [pytest.mark.slurm, pytest.mark.e2e, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def fork_server() -> Iterator[ForkServer]:
    """Imports torch once, for the uninterrupted runs."""
    with ForkServer.start(env={"HF_HUB_OFFLINE": "1"}) as server:
        yield server


def test_four_jobs_of_two_ranks_survive_a_preemption_with_a_watcher_alive(
    slurm_cluster: PrivateCluster, fork_server: ForkServer, tmp_path: Path
) -> None:
    """Saved and gone within grace, no step lost, restarted within a scheduler cycle, bit-equal."""
    proof = Proof(tmp_path / "watched", SCENARIOS["watched"])

    proof.run()

    print(f"\n{proof.figures}")
    assert proof.figures.notice_to_free is not None
    assert proof.figures.notice_to_free < GRACE
    assert max(proof.figures.notice_to_exit) < GRACE
    assert max(proof.figures.dead) <= 10  # sched_interval=5, and the nodes must complete
    proof.check(references(proof.specs(), tmp_path / "reference", fork_server))


def test_jobs_come_back_from_cancel_and_without_grace_with_no_watcher_alive(
    slurm_cluster: PrivateCluster, fork_server: ForkServer, tmp_path: Path
) -> None:
    """PreemptMode=CANCEL (ranks on two nodes), and GraceTime=0: no orchestrator lives meanwhile."""
    cancel = Proof(tmp_path / "cancel", replace(SCENARIOS["cancel"], seeds="[1]", nodes=2))
    nograce = Proof(tmp_path / "nograce", replace(SCENARIOS["nograce"], seeds="[1]"))
    nograce.submit()

    cancel.run(nograce)

    for proof in (cancel, nograce):
        print(f"\n{proof.scenario.partition}: {proof.figures}")
    expected = references(cancel.specs(), tmp_path / "reference", fork_server)
    cancel.check(expected)
    nograce.check(expected)
