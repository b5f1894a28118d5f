"""The background watcher survives its starter, is replaced when killed, leaves when idle."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from durable.clock import SystemClock
from durable.locks import Locked
from jobs.contract.paths import StateDir
from orchestrator import requests
from orchestrator.background import ensure_watcher
from orchestrator.lease import read_watcher
from orchestrator.rows import Watcher
from orchestrator.schedulers.local import LocalScheduler
from orchestrator.service import Service
from tests.contract.stub import LAUNCH_ARGV, lines, make_matrix, make_spec, write_plan

SPECS = [make_spec(seed, steps=4) for seed in (1, 2)]
ROOT = Path(__file__).parent.parent.parent
# What `orch watch` is, with the stub worker: the real verb is tested with the command line.
WATCH = (
    "import sys, threading; from pathlib import Path; sys.path.insert(0, sys.argv[1]);"
    "from tests.contract.stub import LAUNCH_ARGV;"
    "from orchestrator.service import Service;"
    "from orchestrator.schedulers.local import LocalScheduler;"
    "home = Path('.').absolute();"
    "s = Service.open(home, scheduler=LocalScheduler(home, cpus=2, launch_argv=LAUNCH_ARGV));"
    "s.watch(until_idle=True, on_tick=print, stop=threading.Event())"
)
ARGV = (sys.executable, "-P", "-c", WATCH, str(ROOT))


def submit_files(home: Path) -> None:
    """Leave a wish in the inbox, as a verb does that nobody has served yet."""
    state = StateDir(home)
    digest = requests.write_matrix(state, make_matrix(SPECS))
    requests.post(state, requests.SubmitWish(matrix=digest))


def wait_until(home: Path, wanted: object, seconds: float = 30.0) -> None:
    """Wait until the rows satisfy a condition."""
    deadline = time.monotonic() + seconds
    service = Service.open(home)
    while not wanted(service.rows(None)):  # type: ignore[operator]
        assert time.monotonic() < deadline, service.rows(None)
        time.sleep(0.05)
    service.close()


def ended(watcher: Watcher) -> bool:
    """Return whether our child has left, reaping it."""
    try:
        return os.waitpid(watcher.pid or 0, os.WNOHANG)[0] != 0
    except ChildProcessError:
        return True


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A state directory with two stub jobs of about a second in its inbox."""
    home = tmp_path / "home"
    write_plan(home, SPECS, seconds_per_step=0.3)
    submit_files(home)
    return home


def test_a_killed_watcher_is_replaced_and_adopts_what_runs(home: Path) -> None:
    """kill -9 with two running tasks: each still runs once, and the matrix ends."""
    first = ensure_watcher(home, backend="local", argv=ARGV)
    assert first.alive
    assert os.getsid(first.pid or 0) == first.pid  # it survives the terminal
    wait_until(home, lambda rows: [r.state for r in rows] == ["RUNNING"] * 2)
    os.kill(first.pid or 0, signal.SIGKILL)
    os.waitpid(first.pid or 0, 0)
    assert not read_watcher(StateDir(home), SystemClock()).alive

    second = ensure_watcher(home, backend="local", argv=ARGV)

    assert second.pid != first.pid
    wait_until(home, lambda rows: [r.state for r in rows] == ["COMPLETED"] * 2)
    assert len(lines(home / "starts.log")) == 2
    deadline = time.monotonic() + 10
    while not ended(second):
        assert time.monotonic() < deadline, "it does not leave when nothing is left"
        time.sleep(0.05)
    assert not read_watcher(StateDir(home), SystemClock()).alive


def test_one_watcher_is_enough_and_others_are_refused(home: Path) -> None:
    """A second call starts nothing; a tick beside it is told who holds the lease."""
    watcher = ensure_watcher(home, backend="local", argv=ARGV)
    assert ensure_watcher(home, backend="local", argv=ARGV).pid == watcher.pid
    local = LocalScheduler(home, cpus=2, launch_argv=LAUNCH_ARGV)
    service = Service.open(home, scheduler=local)

    with pytest.raises(Locked) as refused:
        service.tick()

    assert refused.value.holder is not None
    assert refused.value.holder["pid"] == watcher.pid
    wait_until(home, lambda rows: len(rows) == 2)
    assert service.cancel("stub") == [spec.name for spec in SPECS]
    wait_until(home, lambda rows: {r.state for r in rows} == {"CANCELLED"})
    while not ended(watcher):
        time.sleep(0.05)
