"""`orch rebuild` is killed at every fault point, given again, and the matrix ends all the same."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from durable.clock import SystemClock
from jobs.contract.paths import StateDir
from orchestrator.fault_points import FAULT_POINTS
from orchestrator.rebuild import rebuild
from tests.contract.stub import lines, write_plan
from tests.crash.orchestrator_child import specs
from tests.crash.test_submit_and_tick import COUNT, ROOT, check_all_done_once, run

pytestmark = pytest.mark.crash
REBUILD = sorted(name for name in FAULT_POINTS if name.startswith("rebuild."))
MOVED = sorted(name for name in FAULT_POINTS if name.startswith("moved."))
COMMAND = """
import sys
from pathlib import Path
from durable.clock import SystemClock
from jobs.contract.paths import StateDir
from orchestrator.rebuild import rebuild
from orchestrator.schedulers.local import LocalScheduler
from orchestrator.service import Service
home = Path(sys.argv[1])
if sys.argv[2] == "rebuild":
    rebuild(StateDir(home), SystemClock())
else:
    service = Service.open(home, scheduler=LocalScheduler(home, cpus=2))
    print(service.adopt_here())
"""


def give(home: Path, what: str, fault: str = "") -> subprocess.CompletedProcess[str]:
    """Give the command once in a process of its own."""
    environment = {**os.environ, "ORCH_FAULT": fault, "ORCH_FAULT_LOG": str(home / "hits.log")}
    return subprocess.run(
        [sys.executable, "-c", COMMAND, str(home), what],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("lost", [True, False])
@pytest.mark.parametrize("name", REBUILD)
def test_a_rebuild_killed_anywhere_is_given_again(tmp_path: Path, name: str, lost: bool) -> None:
    """The cluster has each job once; the old database, where there was one, is kept."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    assert run(home, "fake", "tick.done:kill").returncode == -9
    state = StateDir(home)
    if lost:
        state.database.unlink()

    killed = give(home, "rebuild", f"{name}:kill")
    assert killed.returncode == -9, killed.stderr
    if not lost:
        assert state.database.exists()  # at every moment
    finished = give(home, "rebuild")
    again = run(home, "fake")

    assert finished.returncode == 0, finished.stderr
    assert name in lines(home / "hits.log")
    assert again.returncode == 0, again.stderr
    check_all_done_once(home, again.stdout)
    cluster = json.loads((home / "fake.json").read_text())["tasks"]
    assert Counter(task["job"] for task in cluster) == {spec.id: 1 for spec in specs(COUNT)}
    assert not list(home.glob("*.rebuilding*"))


@pytest.mark.parametrize("name", REBUILD[::3])
def test_a_full_disk_during_a_rebuild_leaves_what_was_there(tmp_path: Path, name: str) -> None:
    """ENOSPC is reported, and the next rebuild succeeds."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    assert run(home, "fake", "tick.done:kill").returncode == -9

    failed = give(home, "rebuild", f"{name}:errno=ENOSPC")
    finished = give(home, "rebuild")

    assert failed.returncode == 1
    assert "No space left" in failed.stderr
    assert finished.returncode == 0, finished.stderr
    check_all_done_once(home, run(home, "fake").stdout)


def test_tasks_of_this_machine_are_found_again_while_they_run(tmp_path: Path) -> None:
    """The database goes while the embedded scheduler's tasks run: none is started beside itself."""
    home = tmp_path / "home"
    write_plan(home, specs(COUNT), seconds_per_step=0.4)
    assert run(home, "local", "tick.done:kill@2").returncode == -9
    StateDir(home).database.unlink()

    report = rebuild(StateDir(home), SystemClock())
    again = run(home, "local")

    assert report.looked_for >= 1
    assert again.returncode == 0, again.stderr
    check_all_done_once(home, again.stdout)


@pytest.mark.parametrize("name", MOVED)
def test_an_adoption_killed_anywhere_is_given_again(tmp_path: Path, name: str) -> None:
    """Tasks of the old place end; each job has its result from the new place."""
    home, new = tmp_path / "home", tmp_path / "new"
    write_plan(home, specs(COUNT), seconds_per_step=0.6)
    assert run(home, "local", "tick.done:kill@2").returncode == -9
    shutil.move(home, new)

    refused = run(new, "local")
    killed = give(new, "moved", f"{name}:kill")
    finished = give(new, "moved")
    write_plan(new, specs(COUNT), seconds_per_step=0.02)
    again = run(new, "local")

    assert "was moved" in refused.stderr
    assert killed.returncode == -9, killed.stderr
    assert finished.returncode == 0, finished.stderr
    assert again.returncode == 0, again.stderr
    states = {row["state"] for row in json.loads(again.stdout)}
    assert states == {"COMPLETED"}
