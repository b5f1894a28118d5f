"""A watcher in the background: its own session, so that it survives the terminal."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from durable.clock import Clock, SystemClock
from durable.files import private_dir
from jobs.contract.paths import StateDir
from orchestrator.lease import read_watcher
from orchestrator.rows import Watcher

START_SECONDS = 15.0
POLL_SECONDS = 0.05


def ensure_watcher(
    home: Path,
    *,
    backend: str,
    site: Path | None = None,
    options: Sequence[str] = (),
    until_idle: bool = True,
    clock: Clock | None = None,
    argv: Sequence[str] | None = None,
) -> Watcher:
    """Start `orch watch` unless a watcher is alive; return who watches.

    `until_idle`: it leaves by itself when no job is open; then the answer may be not alive.
    What it prints goes to `watch.log`. Two callers at once start two, of which one holds the
    lease and the other leaves. `options`: further options of `orch watch`.
    """
    clock = clock or SystemClock()
    state = StateDir(private_dir(home.absolute()))
    watcher = read_watcher(state, clock)
    if watcher.alive:
        return watcher
    command = [
        *(argv or (sys.executable, "-P", "-m", "orchestrator")),
        "watch",
        "--backend",
        backend,
    ]
    command += ["--until-idle"] if until_idle else []
    command += ["--site", str(site)] if site else []
    child = _spawn([*command, *options], state)
    deadline = clock.monotonic() + START_SECONDS
    while clock.monotonic() < deadline:
        watcher = read_watcher(state, clock)
        if watcher.alive or child.poll() is not None:
            return watcher
        clock.sleep(POLL_SECONDS)
    return watcher


def _spawn(command: Sequence[str], state: StateDir) -> subprocess.Popen[bytes]:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    log = os.open(state.watcher_log, flags, 0o600)
    try:
        return subprocess.Popen(
            command,
            cwd=state.path,
            env={**os.environ, "ORCH_HOME": str(state.path)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    finally:
        os.close(log)
