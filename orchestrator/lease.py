"""The lease: one writer, on whichever host; others read.

The flock says who may begin; the epoch in the database is what protects it: a holder that was
paused past its time finds a higher epoch at its next transaction and writes nothing.
The heartbeat file tells readers (also on other hosts) when the last tick was.
"""

from __future__ import annotations

import json
import os
import socket
from dataclasses import dataclass
from pathlib import Path

from durable.clock import Clock
from durable.files import publish_file
from durable.locks import SingleHolderLock, read_holder
from jobs.contract.paths import StateDir
from orchestrator.database import Database
from orchestrator.rows import Watcher

OTHER_HOST_SECONDS = 120.0


class Lease:
    """The right to write, once acquired."""

    def __init__(self, state: StateDir, database: Database, clock: Clock, *, verb: str) -> None:
        self._state = state
        self._database = database
        self._clock = clock
        self._verb = verb
        self._lock = SingleHolderLock(state.lock, about={"command": f"orch {verb}", "verb": verb})
        self.epoch = 0

    def acquire(self) -> None:
        """Take the lease and begin a new epoch. Raises `durable.locks.Locked`."""
        self._lock.acquire()
        try:
            self.epoch = self._database.take_lease()
        except BaseException:
            self._lock.release()
            raise

    def release(self) -> None:
        """Give the lease back."""
        self._lock.release()

    def beat(self) -> None:
        """Say that a tick was done."""
        beat = {
            "schema_version": 1,
            "verb": self._verb,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "lease": self.epoch,
            "last_tick": self._clock.wall(),
        }
        data = json.dumps(beat, sort_keys=True).encode() + b"\n"
        publish_file(_heartbeat(self._state), data, durable=False)


def _heartbeat(state: StateDir) -> Path:
    return state.path / "heartbeat.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """The heartbeat file."""

    verb: str
    host: str
    pid: int
    last_tick: float


def read_beat(state: StateDir) -> Beat | None:
    """Return the last heartbeat, None when there is none that can be read."""
    try:
        values = json.loads(_heartbeat(state).read_text(encoding="utf-8"))
        return Beat(
            verb=str(values["verb"]),
            host=str(values["host"]),
            pid=int(values["pid"]),
            last_tick=float(values["last_tick"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def read_watcher(state: StateDir, clock: Clock) -> Watcher:
    """Return who keeps the matrix moving, as a reader can know it."""
    beat = read_beat(state)
    last_tick = beat.last_tick if beat else None
    holder = read_holder(state.lock)
    if holder is not None and holder.get("verb") == "watch":
        return Watcher(alive=True, host=holder["host"], pid=holder["pid"], last_tick=last_tick)
    if beat is None:
        return Watcher(alive=False)
    # Where flock does not reach other hosts, only the heartbeat can tell.
    elsewhere = beat.verb == "watch" and beat.host != socket.gethostname()
    fresh = abs(clock.wall() - beat.last_tick) < OTHER_HOST_SECONDS
    return Watcher(
        alive=elsewhere and fresh, host=beat.host, pid=beat.pid, last_tick=beat.last_tick
    )
