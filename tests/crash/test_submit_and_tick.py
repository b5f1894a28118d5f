"""The orchestrator is killed at every fault point of submit and tick, and started again.

Whatever the point: the same jobs, none twice, none lost (P1, P2, P7).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import durable.fault_points
from orchestrator.fault_points import FAULT_POINTS
from tests.contract.stub import lines, write_plan
from tests.crash.orchestrator_child import specs

pytestmark = pytest.mark.crash

ROOT = Path(__file__).parent.parent.parent
COUNT = 3
LOCAL_ONLY = {name for name in FAULT_POINTS if name.startswith("local.")}
SLURM_ONLY = {name for name in FAULT_POINTS if name.startswith("slurm.")}  # tests/slurm
# Other verbs, each swept by a test file of its own: test_rebuild_killed, test_leaving,
# test_watcher_job, test_snapshot_killed, test_pack_killed and (tests/contract) test_fetch.
VERBS = ("rebuild.", "moved.", "leave.", "watchjob.", "snapshot.", "packs.", "hub.")
ELSEWHERE = {name for name in FAULT_POINTS if name.startswith(VERBS)}
# Reached only with an unsettled submission, a cancel, a late kill or a broken result: see below.
SPECIAL = {
    "settle.found",
    "settle.surplus_cancelled",
    "settle.committed",
    "stop.killed",
    "cancel.scheduler_asked",
    "local.cancel_asked",
    "apply.result_rejected",
    "release.scheduler_asked",
    "nodes.committed",
    "nodes.told",
}
REHEARSAL = {"stop.control_written", "stop.notified"}  # the fake's jobs have no steps
LOCAL = sorted(set(FAULT_POINTS) - SPECIAL - SLURM_ONLY - ELSEWHERE)
FAKE = sorted(set(LOCAL) - LOCAL_ONLY - REHEARSAL)


def run(
    home: Path, scheduler: str, fault: str = "", *, verb: str = "submit"
) -> subprocess.CompletedProcess[str]:
    """Run the child to its end; `fault` is its ORCH_FAULT."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ORCH_")}
    if fault:
        environment |= {"ORCH_FAULT": fault, "ORCH_FAULT_LOG": str(home / "hits.log")}
    arguments = [str(home), scheduler, str(COUNT), verb]
    return subprocess.run(
        [sys.executable, "-m", "tests.crash.orchestrator_child", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def check_all_done_once(home: Path, output: str) -> None:
    """Every job is COMPLETED, and no two attempts of a job ran at once."""
    rows = json.loads(output)
    assert [row["id"] for row in rows] == [spec.id for spec in specs(COUNT)]
    assert {row["state"] for row in rows} == {"COMPLETED"}
    assert lines(home / "doubles.log") == []


@pytest.mark.parametrize("name", LOCAL)
@pytest.mark.parametrize("nth", [1, 2])
def test_local_survives_a_kill_at_every_point(tmp_path: Path, name: str, nth: int) -> None:
    """Killed anywhere, a second run finishes every job, starting none beside itself."""
    home = tmp_path / "home"
    write_plan(home, specs(COUNT), seconds_per_step=0.03)

    killed = run(home, "local", f"{name}:kill@{nth}")
    again = run(home, "local")

    assert again.returncode == 0, again.stderr
    assert killed.returncode in ((-9,) if nth == 1 else (-9, 0)), killed.stderr
    assert name in lines(home / "hits.log")
    check_all_done_once(home, again.stdout)
    starts = Counter(line.split()[0] for line in lines(home / "starts.log"))
    rehearsed, *others = (spec.id for spec in specs(COUNT))
    assert starts[rehearsed] in (1, 2)
    assert all(starts[job] == 1 for job in others)


@pytest.mark.parametrize("name", sorted(durable.fault_points.FAULT_POINTS))
@pytest.mark.parametrize("nth", [1, 4])
def test_local_survives_a_kill_inside_every_primitive(tmp_path: Path, name: str, nth: int) -> None:
    """Between the write, the fsync and the rename of whatever the orchestrator was publishing."""
    home = tmp_path / "home"
    write_plan(home, specs(COUNT), seconds_per_step=0.03)

    killed = run(home, "local", f"{name}:kill@{nth}")
    again = run(home, "local")

    assert killed.returncode in (-9, 0), killed.stderr
    assert again.returncode == 0, again.stderr
    check_all_done_once(home, again.stdout)


@pytest.mark.parametrize("name", FAKE)
@pytest.mark.parametrize("nth", [1, 2])
def test_fake_survives_a_kill_at_every_point(tmp_path: Path, name: str, nth: int) -> None:
    """The cluster, which outlives the orchestrator, never has a second copy of a job."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)

    killed = run(home, "fake", f"{name}:kill@{nth}")
    again = run(home, "fake")

    assert again.returncode == 0, again.stderr
    assert killed.returncode in ((-9,) if nth == 1 else (-9, 0)), killed.stderr
    check_all_done_once(home, again.stdout)
    cluster = json.loads((home / "fake.json").read_text())["tasks"]
    assert Counter(task["job"] for task in cluster) == {spec.id: 1 for spec in specs(COUNT)}


@pytest.mark.parametrize("name", ["settle.found", "settle.surplus_cancelled", "settle.committed"])
def test_a_crash_while_settling_a_crash_is_survived(tmp_path: Path, name: str) -> None:
    """First killed between the scheduler's answer and its record, then again while searching."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)

    first = run(home, "fake", "handover.submitted:kill")
    second = run(home, "fake", f"{name}:kill")
    third = run(home, "fake")

    assert (first.returncode, second.returncode) == (-9, -9), second.stderr
    assert third.returncode == 0, third.stderr
    check_all_done_once(home, third.stdout)
    cluster = json.loads((home / "fake.json").read_text())["tasks"]
    assert len(cluster) == COUNT


def test_a_grace_that_ends_in_a_kill_survives_a_crash_there(tmp_path: Path) -> None:
    """A worker that ignores its notice is killed; a crash after the kill loses nothing."""
    home = tmp_path / "home"
    jobs = specs(COUNT)
    write_plan(home, jobs, seconds_per_step=0.7, ignore_term=True)

    killed = run(home, "local", "stop.killed:kill")
    write_plan(home, jobs, seconds_per_step=0.02)
    again = run(home, "local")

    assert killed.returncode == -9, killed.stderr
    assert again.returncode == 0, again.stderr
    check_all_done_once(home, again.stdout)
    assert json.loads(again.stdout)[0]["attempts"] == 2


def test_a_crash_while_a_false_result_is_put_aside_is_survived(tmp_path: Path) -> None:
    """The job still gets its real result, and the false one is kept."""
    home = tmp_path / "home"
    jobs = specs(COUNT)
    write_plan(home, jobs, seconds_per_step=0.02)
    directory = home / "jobs" / jobs[1].id
    directory.mkdir(parents=True)
    (directory / "result.json").write_text("{}")

    killed = run(home, "local", "apply.result_rejected:kill")
    again = run(home, "local")

    assert killed.returncode == -9, killed.stderr
    assert again.returncode == 0, again.stderr
    check_all_done_once(home, again.stdout)
    assert (directory / "result.rejected-1.json").read_text() == "{}"


@pytest.mark.parametrize("name", ["cancel.scheduler_asked", "local.cancel_asked"])
def test_a_cancel_that_died_half_way_is_finished_by_the_next_run(tmp_path: Path, name: str) -> None:
    """The wish was durable. A person who then submits again gets the jobs."""
    home = tmp_path / "home"
    write_plan(home, specs(COUNT), seconds_per_step=5.0)  # none is over before its cancel

    killed = run(home, "local", f"{name}:kill", verb="cancel")
    finished = run(home, "local", verb="watch")
    write_plan(home, specs(COUNT), seconds_per_step=0.02)
    again = run(home, "local")

    assert killed.returncode == -9, killed.stderr
    states = {row["state"] for row in json.loads(finished.stdout)}
    assert "CANCELLED" in states
    assert states <= {"CANCELLED", "COMPLETED"}
    check_all_done_once(home, again.stdout)


def test_a_crash_after_a_release_is_survived(tmp_path: Path) -> None:
    """The scheduler was asked and may have obeyed; asked again or not, each job runs once."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)

    killed = run(home, "fake", "release.scheduler_asked:kill", verb="held")
    again = run(home, "fake", verb="held")

    assert killed.returncode == -9, killed.stderr
    assert again.returncode == 0, again.stderr
    assert len(list(home.glob("held-*"))) == COUNT
    check_all_done_once(home, again.stdout)
    cluster = json.loads((home / "fake.json").read_text())["tasks"]
    assert Counter(task["job"] for task in cluster) == {spec.id: 1 for spec in specs(COUNT)}


@pytest.mark.parametrize("name", ["nodes.committed", "nodes.told"])
def test_a_crash_while_a_node_is_kept_off_is_survived(tmp_path: Path, name: str) -> None:
    """The node's job runs again, once; the others, which waited meanwhile, run once."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)

    killed = run(home, "fake", f"{name}:kill", verb="node")
    again = run(home, "fake", verb="node")

    assert killed.returncode == -9, killed.stderr
    assert again.returncode == 0, again.stderr
    check_all_done_once(home, again.stdout)
    first, *others = (spec.id for spec in specs(COUNT))
    cluster = json.loads((home / "fake.json").read_text())["tasks"]
    runs = Counter(task["job"] for task in cluster)
    assert runs == {first: 2, **dict.fromkeys(others, 1)}


def test_every_fault_point_is_tried() -> None:
    """No point of this package is left out of the crash suites."""
    source = Path(__file__).read_text()

    assert set(LOCAL) | SLURM_ONLY | SPECIAL | ELSEWHERE == set(FAULT_POINTS)
    assert all(source.count(f'"{name}') >= 2 for name in SPECIAL)
