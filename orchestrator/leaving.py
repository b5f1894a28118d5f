"""`orch watch --stop`: asking the watcher to leave, on whichever host it is.

The request lies in the state directory and names the lease epoch that it means, so it never ends a
later watcher. On the watcher's own host a SIGTERM, to that very process, follows if it does not
hear; nobody is ever killed across hosts.
"""

from __future__ import annotations

import json
import os
import signal
import socket
from dataclasses import dataclass
from pathlib import Path

from durable.clock import Clock
from durable.faults import hit
from durable.files import publish_file
from durable.locks import read_holder
from durable.processes import ProcessIdentity
from jobs.contract.paths import StateDir
from orchestrator.lease import read_watcher
from orchestrator.pulse import read_beat
from orchestrator.rows import Watcher

SIGNAL_SECONDS = 10.0  # a tick may be under way: longer than most of them
LEAVE_SECONDS = 90.0
POLL_SECONDS = 0.1


class StillThere(Exception):
    """The watcher was asked to leave and has not left yet; the request stands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """A watcher that has left."""

    watcher: Watcher
    signalled: bool


def request_file(state: StateDir) -> Path:
    """Return where the request lies."""
    return state.path / "watch.stop"


def ask_to_leave(state: StateDir, lease: int) -> None:
    """Ask the holder of this lease epoch to leave after its tick."""
    by = f"pid {os.getpid()} on {socket.gethostname()}"
    words = {"schema_version": 1, "lease": lease, "by": by}
    publish_file(request_file(state), json.dumps(words).encode() + b"\n", durable=False)
    hit("leave.asked")


def asked_to_leave(state: StateDir, lease: int) -> str | None:
    """Return who asked the holder of this lease epoch to leave, None when nobody did."""
    try:
        words = json.loads(request_file(state).read_text(encoding="utf-8"))
        return str(words["by"]) if words["lease"] == lease else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def forget_request(state: StateDir) -> None:
    """Remove a request that was obeyed."""
    hit("leave.obeyed")
    request_file(state).unlink(missing_ok=True)


def dismiss(state: StateDir, clock: Clock, *, seconds: float = LEAVE_SECONDS) -> Left | None:
    """Ask the watcher to leave and wait until it has; None when none is alive.

    Raises `StillThere` after `seconds`.
    """
    watcher = read_watcher(state, clock)
    if not watcher.alive:
        return None
    asked: int | None = None
    signalled = False
    began = clock.monotonic()
    while (passed := clock.monotonic() - began) < seconds:
        now = read_watcher(state, clock)
        if not now.alive or (now.host, now.pid) != (watcher.host, watcher.pid):
            return Left(watcher=watcher, signalled=signalled)
        beat = read_beat(state)
        # The lock is taken a moment before the heartbeat says with which epoch.
        if beat is not None and beat.pid == watcher.pid and beat.lease != asked:
            ask_to_leave(state, beat.lease)
            asked = beat.lease
        if passed >= SIGNAL_SECONDS and not signalled:
            signalled = _signal(state, watcher)
        clock.sleep(POLL_SECONDS)
    raise StillThere(
        f"pid {watcher.pid} on {watcher.host} has not left in {seconds:g} s; it is asked to, and"
        " leaves as soon as its tick is over"
    )


def _signal(state: StateDir, watcher: Watcher) -> bool:
    """Send SIGTERM to the watcher if it is a process of this boot of this host."""
    holder = read_holder(state.lock) or {}
    boot_id, pid, start = holder.get("boot_id"), holder.get("pid"), holder.get("pid_start")
    if holder.get("host") != socket.gethostname() or pid != watcher.pid:
        return False
    if not isinstance(boot_id, str) or not isinstance(pid, int) or not isinstance(start, int):
        return False
    return ProcessIdentity(boot_id, pid, start).signal(signal.SIGTERM)
