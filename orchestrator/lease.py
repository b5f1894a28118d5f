"""The lease: one writer, on whichever host; others read.

The flock says who may begin, and where it does not reach another host, that host's heartbeat does.
The epoch in the database is what protects it: a holder that was paused past its time finds a
higher epoch at its next transaction and writes nothing.
"""

from __future__ import annotations

import os
import secrets
import socket
from dataclasses import replace

from durable.clock import Clock
from durable.faults import hit
from durable.locks import Locked, SingleHolderLock, read_holder
from jobs.contract.environment import HOST_LOCKS
from jobs.contract.paths import StateDir
from orchestrator.continuity import Stamp
from orchestrator.database import Database
from orchestrator.instance import Instance, StateRefused, checked, place_of, publish_instance
from orchestrator.mounts import LockReach, lock_fix, lock_reach, mount_of, read_mountinfo
from orchestrator.observation import read_watcher_job
from orchestrator.pulse import TAKEOVER_SECONDS, Pulse, holder_elsewhere, read_beat
from orchestrator.rows import Watcher

_TOO_SHORT = frozenset({LockReach.HOST_ONLY, LockReach.NONE})


class Lease:
    """The right to write, once acquired."""

    def __init__(self, state: StateDir, database: Database, clock: Clock, *, verb: str) -> None:
        self._state = state
        self._database = database
        self._clock = clock
        self._verb = verb
        self._lock = WriterLock(state, verb=verb)
        self._pulse: Pulse | None = None
        self._instance: Instance | None = None
        self.epoch = 0

    def acquire(self) -> None:
        """Take the lease and begin a new epoch.

        Raises `durable.locks.Locked`; `StateRefused` where the database is older than the state
        directory, where that was moved or copied, or where its locks end at this host.
        """
        self._lock.acquire()
        try:
            self._begin()
        except BaseException:
            self._lock.release()
            raise

    def _begin(self) -> None:
        mark = self._database.mark()
        instance, moved_from = checked(self._state, mark, new_id=secrets.token_hex(8))
        self.epoch = self._database.take_lease(instance.id)
        hit("lease.taken")
        if moved_from is not None:
            self._note_move(moved_from)
        self._instance = replace(instance, lease=self.epoch, journal=self._database.mark().journal)
        publish_instance(self._state, self._instance, durable=True)
        hit("lease.recorded")
        self._pulse = Pulse(self._state, self._clock, verb=self._verb, lease=self.epoch)
        self._pulse.start()

    def _note_move(self, moved_from: str) -> None:
        with self._database.writing(self.epoch):
            values = {"at": self._clock.wall(), "lease": self.epoch, "job": None, "token": None}
            words = {"kind": "moved", "cause": f"it was at {moved_from}, and no task is live"}
            here = f"adopted at {place_of(self._state).path}"
            self._database.run("event_add", {**values, **words, "decision": here})

    def release(self) -> None:
        """Give the lease back."""
        if self._pulse is not None:
            self._pulse.stop()
            self._pulse = None
        self._lock.release()

    def beat(self, looked: Stamp) -> None:
        """Say that a tick was done, when it looked, and how far the journal is."""
        if self._pulse is None or self._instance is None:
            raise RuntimeError("the lease is not held")
        mark = self._database.mark()
        if (mark.lease, mark.journal) != (self.epoch, self._instance.journal):
            self._database.check_lease(self.epoch)
            self._instance = replace(self._instance, journal=mark.journal)
            # The events are in the database; a power cut may take this file's last version.
            publish_instance(self._state, self._instance, durable=False)
        self._pulse.ticked(looked)


class WriterLock:
    """The flock of a state directory, with what must be known where flock is not enough."""

    def __init__(self, state: StateDir, *, verb: str) -> None:
        self._state = state
        self._lock = SingleHolderLock(state.lock, about={"command": f"orch {verb}", "verb": verb})

    def acquire(self) -> None:
        """Take it. Raises `Locked`, also for a living holder on another host; `StateRefused`."""
        reach = require_reaching_locks(self._state)
        self._lock.acquire()
        if reach is LockReach.HOSTS:
            return  # granted means that the last holder is gone, wherever it was
        elsewhere = holder_elsewhere(self._state, now_file=self._lock.record_path)
        if elsewhere is not None:
            self._lock.release()
            raise Locked(self._state.lock, elsewhere)

    def release(self) -> None:
        """Give it back; does nothing when it is not held."""
        self._lock.release()


def require_reaching_locks(state: StateDir, mountinfo: str | None = None) -> LockReach:
    """Return how far locks reach. Raises `StateRefused` where two hosts could both hold one.

    ORCH_HOST_LOCKS=accept says that only one host writes here.
    """
    mount = mount_of(state.path.resolve(), read_mountinfo() if mountinfo is None else mountinfo)
    reach = lock_reach(mount)
    if reach in _TOO_SHORT and os.environ.get(HOST_LOCKS) != "accept":
        raise StateRefused(
            f"{state.path} is on {mount.kind} ({mount.point}), whose locks do not reach other"
            " hosts as it is mounted: two hosts could both write",
            fix=f"{lock_fix(mount)}; or set ORCH_HOME to another file system; or, where only one"
            f" host ever runs orch here, set {HOST_LOCKS}=accept",
        )
    return reach


def read_watcher(state: StateDir, clock: Clock) -> Watcher:
    """Return who keeps the matrix moving, as a reader can know it."""
    return replace(_read_holder(state, clock), job=read_watcher_job(state))


def _read_holder(state: StateDir, clock: Clock) -> Watcher:
    beat = read_beat(state)
    last_tick = beat.last_tick if beat else None
    holder = read_holder(state.lock)
    if holder is not None and holder.get("verb") == "watch":
        return Watcher(alive=True, host=holder["host"], pid=holder["pid"], last_tick=last_tick)
    if beat is None:
        return Watcher(alive=False)
    # Where flock does not reach other hosts, only the heartbeat can tell.
    elsewhere = beat.verb == "watch" and beat.holding and beat.host != socket.gethostname()
    fresh = beat.beat_at is not None and abs(clock.wall() - beat.beat_at) < TAKEOVER_SECONDS
    return Watcher(
        alive=elsewhere and fresh, host=beat.host, pid=beat.pid, last_tick=beat.last_tick
    )
