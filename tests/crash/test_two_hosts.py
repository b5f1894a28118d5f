"""Two orchestrators on two hosts with one state directory: one writes, the other says who does."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from jobs.contract.paths import StateDir
from orchestrator import requests
from orchestrator.instance import read_instance
from orchestrator.pulse import TAKEOVER_SECONDS, heartbeat_file, read_beat
from orchestrator.service import Service
from tests.contract.stub import make_matrix, make_spec
from tests.crash.hosts import Host, why_not

pytestmark = [
    pytest.mark.crash,
    pytest.mark.skipif(why_not() is not None, reason=str(why_not())),
]
ORCH = (sys.executable, "-P", "-m", "orchestrator")


def until(condition: Callable[[], object], what: str, seconds: float = 30.0) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited for {what}"
        time.sleep(0.05)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A state directory that knows two jobs, which never run: no scheduler has been asked."""
    home = tmp_path / "state"
    service = Service.open(home)
    requests.write_matrix(service.state, make_matrix([make_spec(1), make_spec(2)]))
    service.close()
    return home


@pytest.fixture
def watcher(home: Path, tmp_path: Path, locks_end_here: bool) -> Iterator[subprocess.Popen[bytes]]:
    """`orch watch` on login1, at work."""
    own = StateDir(home).lock if locks_end_here else None
    host = Host(tmp_path / "hosts", "login1", own_locks=own)
    process = host.start(
        *ORCH, "watch", "--backend", "local", log=tmp_path / "login1.log", ORCH_HOME=str(home)
    )
    state = StateDir(home)
    until(lambda: (beat := read_beat(state)) and beat.last_tick, "the first tick")
    yield process
    for number in (signal.SIGCONT, signal.SIGKILL):
        with suppress(ProcessLookupError):
            process.send_signal(number)
    process.wait()


def login2(home: Path, tmp_path: Path, *, locks_end_here: bool) -> Host:
    """Return the second host."""
    own = StateDir(home).lock if locks_end_here else None
    return Host(tmp_path / "hosts", "login2", own_locks=own)


@pytest.mark.parametrize("locks_end_here", [False, True])
def test_the_second_host_names_the_holder_and_only_reads(
    home: Path, tmp_path: Path, watcher: subprocess.Popen[bytes], locks_end_here: bool
) -> None:
    """By flock, and where flock ends at each host by the heartbeat; read-only verbs work."""
    there = login2(home, tmp_path, locks_end_here=locks_end_here)

    refused = [there.run(*ORCH, verb, ORCH_HOME=str(home)) for verb in ("watch", "tick")]
    shown = there.run(*ORCH, "status", "--json", ORCH_HOME=str(home))

    assert [done.returncode for done in refused] == [5, 5]
    assert all(f"pid {watcher.pid} on login1" in done.stderr for done in refused)
    assert shown.returncode == 0, shown.stderr
    assert f'"pid":{watcher.pid}' in shown.stdout.replace(" ", "")
    assert watcher.poll() is None


@pytest.mark.parametrize("locks_end_here", [False, True])
def test_a_killed_holder_leaves_nothing_to_remove(
    home: Path, tmp_path: Path, watcher: subprocess.Popen[bytes], locks_end_here: bool
) -> None:
    """kill -9 on another host: after the takeover time at the latest, and never by rm."""
    there = login2(home, tmp_path, locks_end_here=locks_end_here)
    watcher.kill()
    watcher.wait()

    first = there.run(*ORCH, "tick", "--backend", "local", ORCH_HOME=str(home))
    let_time_pass(home)
    later = there.run(*ORCH, "tick", "--backend", "local", ORCH_HOME=str(home))

    # This file system does not say that its locks reach all hosts, so flock alone is not believed.
    assert first.returncode == 5
    assert "on login1" in first.stderr
    assert later.returncode == 0, later.stderr


def let_time_pass(home: Path) -> None:
    """Make the last heartbeat as old as it is after the takeover time."""
    file = heartbeat_file(StateDir(home))
    then = file.stat().st_mtime - TAKEOVER_SECONDS - 5
    os.utime(file, (then, then))


@pytest.mark.parametrize("locks_end_here", [True])
def test_a_stopped_holder_that_was_taken_over_writes_nothing_when_it_wakes(
    home: Path, tmp_path: Path, watcher: subprocess.Popen[bytes], locks_end_here: bool
) -> None:
    """SIGSTOP, takeover by the other host, SIGCONT: it leaves with 5; every byte is as before."""
    there = login2(home, tmp_path, locks_end_here=locks_end_here)
    watcher.send_signal(signal.SIGSTOP)
    let_time_pass(home)
    taken = there.run(*ORCH, "tick", "--backend", "local", ORCH_HOME=str(home))
    assert taken.returncode == 0, taken.stderr
    state = StateDir(home)
    files = (state.database, heartbeat_file(state))
    before = [file.read_bytes() for file in files]

    watcher.send_signal(signal.SIGCONT)

    assert watcher.wait(timeout=30) == 5
    assert "taken over" in (tmp_path / "login1.log").read_text()
    assert [file.read_bytes() for file in files] == before
    epoch = sqlite3.connect(state.database).execute("SELECT epoch FROM lease").fetchone()[0]
    instance = read_instance(state)
    assert instance is not None
    assert instance.lease == epoch
