"""`orch watch --stop`, `--detach` and cron's tick, as processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from durable.clock import SystemClock
from jobs.contract.paths import StateDir
from orchestrator.background import ensure_watcher
from orchestrator.lease import read_watcher
from orchestrator.leaving import StillThere, ask_to_leave, asked_to_leave, dismiss, request_file
from orchestrator.pulse import read_beat
from orchestrator.service import Service
from tests.contract.stub import make_matrix, make_spec, write_plan

ROOT = Path(__file__).parents[2]
ORCH = (sys.executable, "-P", "-m", "orchestrator")


def orch(home: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a verb in a process of its own."""
    return subprocess.run(
        [*ORCH, *words],
        env={**os.environ, "ORCH_HOME": str(home), **environment},
        cwd=home.parent,
        capture_output=True,
        text=True,
        timeout=120,
    )


def until(condition: Callable[[], object], what: str, seconds: float = 30.0) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited for {what}"
        time.sleep(0.05)


def alive(home: Path) -> bool:
    """Return whether a watcher lives."""
    return read_watcher(StateDir(home), SystemClock()).alive


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A state directory that nobody watches; whoever does at the end is ended."""
    home = tmp_path / "state"
    Service.open(home).close()
    yield home
    watcher = read_watcher(StateDir(home), SystemClock())
    if watcher.alive and watcher.pid:
        for number in (signal.SIGCONT, signal.SIGKILL):
            os.kill(watcher.pid, number)


def test_a_detached_watcher_has_a_session_of_its_own_and_leaves_when_asked(home: Path) -> None:
    """It survives the terminal; `--stop` waits and says who it was; twice is no error."""
    started = orch(home, "watch", "--detach", "--backend", "local")
    assert started.returncode == 0, started.stderr
    watcher = read_watcher(StateDir(home), SystemClock())
    assert watcher.alive
    assert os.getsid(watcher.pid or 0) == watcher.pid
    again = orch(home, "watch", "--detach", "--backend", "local")
    assert f"pid {watcher.pid}" in again.stderr

    stopped = orch(home, "watch", "--stop")

    assert stopped.returncode == 0, stopped.stderr
    assert f"pid {watcher.pid}" in stopped.stderr
    assert "SIGTERM" not in stopped.stderr  # the request alone was enough
    assert not alive(home)
    assert not request_file(StateDir(home)).exists()
    twice = orch(home, "watch", "--stop")
    assert (twice.returncode, "no watcher is alive" in twice.stderr) == (0, True)


def test_a_request_ends_only_the_watcher_that_it_means(home: Path) -> None:
    """A request that was left behind must not end the next watcher."""
    state = StateDir(home)
    ask_to_leave(state, 1)
    ensure_watcher(home, backend="local", until_idle=False)
    until(lambda: (beat := read_beat(state)) and beat.last_tick, "a tick")
    beat = read_beat(state)
    assert beat is not None
    ask_to_leave(state, beat.lease + 1)

    time.sleep(2.5)

    assert alive(home)
    assert asked_to_leave(state, beat.lease) is None


def test_a_stopped_watcher_is_told_of_and_never_killed_behind_its_back(home: Path) -> None:
    """SIGSTOP: it cannot hear; the request stands, and it obeys as soon as it goes on."""
    watcher = ensure_watcher(home, backend="local", until_idle=False)
    until(lambda: (b := read_beat(StateDir(home))) and b.last_tick, "a tick")
    os.kill(watcher.pid or 0, signal.SIGSTOP)

    with pytest.raises(StillThere, match=f"pid {watcher.pid}"):
        dismiss(StateDir(home), SystemClock(), seconds=1.0)

    os.kill(watcher.pid or 0, signal.SIGCONT)
    until(lambda: not alive(home), "the watcher to leave")


@pytest.mark.crash
@pytest.mark.parametrize("killed", ["asker", "watcher"])
def test_killed_while_asking_or_obeying_nothing_is_left_to_remove(home: Path, killed: str) -> None:
    """Each side is killed at its fault point; the next watcher and the next `--stop` work."""
    fault = {"ORCH_FAULT": "leave.obeyed:kill"} if killed == "watcher" else {}
    orch(home, "watch", "--detach", "--backend", "local", **fault)
    first = read_watcher(StateDir(home), SystemClock())
    fault = {"ORCH_FAULT": "leave.asked:kill"} if killed == "asker" else {}

    asked = orch(home, "watch", "--stop", **fault)

    assert asked.returncode == (-9 if killed == "asker" else 0), asked.stderr
    until(lambda: not alive(home), "the watcher to leave")
    started = orch(home, "watch", "--detach", "--backend", "local")
    assert started.returncode == 0, started.stderr
    second = read_watcher(StateDir(home), SystemClock())
    assert (second.alive, second.pid == first.pid) == (True, False)
    assert orch(home, "watch", "--stop").returncode == 0
    assert not alive(home)


def test_crons_tick_is_silent_unless_something_happens(home: Path) -> None:
    """No mail each five minutes; beside a watcher silent too, with 5; errors are said."""
    write_plan(home, [])
    quiet = orch(home, "tick", "--quiet", "--backend", "local")
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")

    ensure_watcher(home, backend="local", until_idle=False)
    beside = orch(home, "tick", "--quiet", "--backend", "local")
    loud = orch(home, "tick", "--backend", "local")
    assert (beside.returncode, beside.stdout, beside.stderr) == (5, "", "")
    assert loud.returncode == 5
    assert "held by" in loud.stderr
    assert orch(home, "watch", "--stop").returncode == 0

    from orchestrator import requests

    digest = requests.write_matrix(StateDir(home), make_matrix([make_spec(1)]))
    requests.post(StateDir(home), requests.SubmitWish(matrix=digest))
    happened = orch(home, "tick", "--quiet", "--backend", "local")
    assert "1 new jobs" in happened.stderr
    orch(home, "cancel", "stub", "--yes")


def test_two_ways_at_once_are_refused(home: Path) -> None:
    """What would `--detach --stop` mean?"""
    both = orch(home, "watch", "--detach", "--stop")

    assert both.returncode == 2
    assert "exclude" in both.stderr
