"""A black hole on a real Slurm: one node on which every job dies at once."""

from __future__ import annotations

import threading
from pathlib import Path
from random import Random

import pytest

from jobs.states import JobState
from orchestrator.devcluster.cluster import PrivateCluster
from orchestrator.node_strikes import expand_nodes
from orchestrator.schedulers.base import TaskKey, TaskState
from orchestrator.service import Service
from tests.contract.stub import make_matrix
from tests.slurm.faults import Faults
from tests.slurm.private_cluster import NODES, StubJobs, nodes_are_free, slurm, until

pytestmark = pytest.mark.slurm
BLACK_HOLE = '[ "$SLURMD_NODENAME" != n1 ] || exit 1'


def test_a_node_that_fails_everything_does_not_eat_the_queue(
    slurm_cluster: PrivateCluster, tmp_path: Path
) -> None:
    """All jobs get their result, although n1 is the first that Slurm fills and always free."""
    jobs = StubJobs(tmp_path / "orch", setup=[BLACK_HOLE])
    specs = jobs.specs(24, steps=2, seconds_per_step=0.5)
    service = Service.open(jobs.home, scheduler=jobs.scheduler, tick_seconds=0.5)
    service.submit([make_matrix(specs)])

    service.watch(until_idle=True, on_tick=lambda report: None, stop=threading.Event())

    rows = service.rows()
    assert {row.state for row in rows} == {JobState.COMPLETED}, [row.reason for row in rows]
    events = [event for event in service.events(None) if event.kind == "node"]
    assert events[0].decision.startswith("n1 is kept off")
    died = [event for event in service.events(None) if "launch" in event.decision]
    assert 1 <= len(died) <= 10  # what n1 had taken before the first look, not the queue
    service.close()


def test_a_task_that_lost_its_node_does_not_begin_there_again(
    slurm_cluster: PrivateCluster, tmp_path: Path
) -> None:
    """Slurm puts it back with its id; the node is back at once, idle, and the first in order."""
    jobs = StubJobs(tmp_path / "orch")
    (spec,) = jobs.specs(1, steps=40, save_every=5)
    faults = Faults(slurm_cluster, [jobs.job(spec)], Random(1))
    service = Service.open(jobs.home, scheduler=jobs.scheduler)
    service.submit([make_matrix([spec])])
    jobs.started(spec)
    service.tick()
    task = service.store.live_tasks()[0]
    key = TaskKey(token=task["token"], scheduler_id=task["scheduler_id"], index=0)
    assert jobs.node(key) == "n1"

    faults.cut_power("n1", 0.5)
    slurm("scontrol", "update", "NodeName=n1", "State=DOWN", "Reason=lost")
    faults.heal()
    until(nodes_are_free, "n1 to be back")

    def begun() -> bool:
        service.tick()
        return len(jobs.starts(spec)) == 2

    until(begun, "the second attempt", every=0.5)
    assert jobs.node(key) != "n1"
    assert excluded(key.scheduler_id) == {("n1",)}
    (end,) = service.store.database.rows("ends_of", {"job": spec.id})
    assert (end["class"], end["nodes"]) == ("node", "n1")
    service.close()


def test_waiting_tasks_keep_off_nodes_and_the_sites_own_list_stays(
    slurm_cluster: PrivateCluster, tmp_path: Path
) -> None:
    """At submission and afterwards, task by task; an empty set leaves the site's list."""
    jobs = StubJobs(tmp_path / "orch", exclude="n4")
    specs = jobs.specs(3, steps=2)
    first, second, third = jobs.submit(specs, exclude_nodes=("n2",), resources={"memory_gb": 3.9})
    # 3.9 GB: two tasks run on n1 and n3, the third waits.
    jobs.started(specs[0])
    assert excluded(first.scheduler_id) == {("n2", "n4")}
    held = jobs.specs(2, steps=2)
    keys = jobs.submit(held, resources={"memory_gb": 3.9})
    slurm("scontrol", "hold", keys[0].scheduler_id)

    assert set(jobs.scheduler.exclude(keys, ("n1", "n3")).values()) == {None}
    assert excluded(keys[0].scheduler_id) == {("n1", "n3", "n4")}
    assert set(jobs.scheduler.exclude(keys, ()).values()) == {None}
    assert excluded(keys[0].scheduler_id) == {("n4",)}
    assert jobs.scheduler.nodes() == tuple(f"n{number}" for number in range(1, NODES + 1))
    assert set(jobs.scheduler.release(keys).values()) == {None}
    for key in (first, second, third, *keys):
        jobs.wait(key, TaskState.COMPLETED)


def test_a_submission_that_only_the_excluded_nodes_can_run_goes_out_without_the_wish(
    slurm_cluster: PrivateCluster, tmp_path: Path
) -> None:
    """Four ranks on four nodes: Slurm refuses to keep off one of them, for good."""
    jobs = StubJobs(tmp_path / "orch")
    specs = jobs.specs(1, steps=2)

    (key,) = jobs.submit(specs, ranks=NODES, resources={"nodes": NODES}, exclude_nodes=("n1",))

    assert excluded(key.scheduler_id) == {()}
    jobs.wait(key, TaskState.COMPLETED)


def excluded(array_id: str) -> set[tuple[str, ...]]:
    """Return the ExcNodeList of each task of an array, expanded."""
    lines = slurm("scontrol", "--oneliner", "show", "job", array_id).splitlines()
    words = [word for line in lines for word in line.split()]
    lists = {word.partition("=")[2] for word in words if word.startswith("ExcNodeList=")}
    return {tuple(sorted(expand_nodes(text))) for text in lists}
