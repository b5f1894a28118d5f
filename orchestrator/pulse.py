"""The heartbeat file: what the holder of the lease says of itself to readers and to other hosts.

Where flock does not reach other hosts, a fresh heartbeat from elsewhere is what keeps a second
holder away, so it goes on during long ticks. Ages are measured by the file system's clock, since
the clocks of two hosts may differ.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from durable.clock import Clock, read_boot_id
from durable.files import publish_file
from jobs.contract.paths import StateDir
from orchestrator.continuity import Stamp

PULSE_SECONDS = 20.0
# A holder on another host that has been silent for so long may be taken over; its lease epoch
# keeps it from writing should it live.
TAKEOVER_SECONDS = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """heartbeat.json."""

    verb: str
    host: str
    pid: int
    lease: int = 0
    boot_id: str | None = None
    holding: bool = False  # the lease is held; False: it was given back in peace
    last_tick: float | None = None  # wall clock seconds
    beat_at: float | None = None  # wall clock seconds of the writer's host
    looked: Stamp | None = None  # the last tick's clocks, for the next one to compare with


def heartbeat_file(state: StateDir) -> Path:
    """Return where the heartbeat lies."""
    return state.path / "heartbeat.json"


def read_beat(state: StateDir) -> Beat | None:
    """Return the last heartbeat, None when there is none that can be read."""
    try:
        values = json.loads(heartbeat_file(state).read_text(encoding="utf-8"))
        last_tick, beat_at = values.get("last_tick"), values.get("beat_at")
        return Beat(
            verb=str(values["verb"]),
            host=str(values["host"]),
            pid=int(values["pid"]),
            lease=int(values.get("lease", 0)),
            boot_id=str(values["boot_id"]) if values.get("boot_id") else None,
            holding=values.get("holding") is True,
            last_tick=None if last_tick is None else float(last_tick),
            beat_at=None if beat_at is None else float(beat_at),
            looked=Stamp.parsed(values.get("looked")),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def holder_elsewhere(state: StateDir, *, now_file: Path) -> dict[str, Any] | None:
    """Return who holds the lease on another kernel, as far as its heartbeat tells.

    On this kernel flock knows better, and a host that was restarted holds nothing. `now_file`: a
    file that was written a moment ago, for the file system's idea of now.
    """
    beat = read_beat(state)
    if beat is None or not beat.holding or beat.host == socket.gethostname():
        return None
    if beat.boot_id == read_boot_id():
        return None
    try:
        age = now_file.stat().st_mtime - heartbeat_file(state).stat().st_mtime
    except OSError:
        return None
    if abs(age) > TAKEOVER_SECONDS:
        return None
    return {
        "host": beat.host,
        "pid": beat.pid,
        "verb": beat.verb,
        "command": f"orch {beat.verb}",
        "boot_id": beat.boot_id,
        "pid_start": None,
        "since": None,
    }


class Pulse:
    """Keeps the heartbeat of one lease fresh, from `start` to `stop`."""

    def __init__(self, state: StateDir, clock: Clock, *, verb: str, lease: int) -> None:
        self._state = state
        self._clock = clock
        self._done = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        before = read_beat(state)
        self._beat = Beat(
            verb=verb,
            host=socket.gethostname(),
            pid=os.getpid(),
            lease=lease,
            boot_id=read_boot_id(),
            holding=True,
            last_tick=before.last_tick if before else None,
            looked=before.looked if before else None,
        )

    def start(self) -> None:
        """Say that the lease is held, now and every `PULSE_SECONDS`."""
        self.publish()
        self._thread = threading.Thread(target=self._go_on, name="orch-pulse", daemon=True)
        self._thread.start()

    def ticked(self, looked: Stamp) -> None:
        """Say that a tick was done, and what the clocks said when it looked."""
        self._beat = replace(self._beat, last_tick=self._clock.wall(), looked=looked)
        self.publish()

    def stop(self) -> None:
        """Say that the lease is given back."""
        self._done.set()
        if self._thread is not None:
            self._thread.join()
        self._beat = replace(self._beat, holding=False)
        with suppress(OSError):  # a full disk must not keep anybody from leaving
            self.publish()

    def publish(self) -> None:
        """Write the heartbeat, unless a later holder has written one. Raises OSError."""
        with self._lock:
            last = read_beat(self._state)
            if last is not None and last.lease > self._beat.lease:
                return
            beat = {**asdict(self._beat), "schema_version": 1, "beat_at": self._clock.wall()}
            data = json.dumps(beat, sort_keys=True).encode() + b"\n"
            publish_file(heartbeat_file(self._state), data, durable=False)

    def _go_on(self) -> None:
        while not self._done.wait(PULSE_SECONDS):
            with suppress(OSError):  # the next one may succeed
                self.publish()
