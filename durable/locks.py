"""One holder at a time, by flock: free as soon as its holder is dead, however it died.

The holder's record lies beside the lock file (`writer.lock.holder.json`) and is believed only
while the flock is really held. Nothing here ever needs an `rm`. A lock is advice: what protects
data is the epoch, checked where the data is written.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from durable import faults
from durable.files import publish_file
from durable.processes import ProcessIdentity

_MAX_RECORD_BYTES = 64 << 10
_UNKNOWN_HOLDER: dict[str, Any] = {
    "host": None,
    "boot_id": None,
    "pid": None,
    "pid_start": None,
    "since": None,
}
# Readers probe with a shared flock for an instant; whoever meets one tries again.
_PATIENCE_SECONDS = 0.5
_POLL_SECONDS = 0.01


class Locked(Exception):
    """Somebody else holds the lock; `.holder` is the record of who, as far as it is known."""

    def __init__(self, path: Path, holder: Mapping[str, Any] | None) -> None:
        self.path = path
        self.holder: dict[str, Any] | None = None if holder is None else dict(holder)
        super().__init__(f"{path} is held by {_describe(self.holder)}")


class LockUnsupported(OSError):
    """The filesystem has no flock. A marker file would not be safe, so there is no fallback."""


class SingleHolderLock:
    """A lock file with one holder, and a record of who it is that others may read.

    `about` (JSON-able) is added to the record, e.g. `{"command": "orch watch"}`.
    """

    def __init__(self, path: Path, *, about: Mapping[str, object]) -> None:
        self.path = path
        self._about = dict(about)
        # Readers only ask who holds a lock; importing filelock is a quarter of `orch status`.
        from filelock import Timeout, UnixFileLock

        self._busy = Timeout
        self._lock = UnixFileLock(
            str(path),
            mode=0o600,
            thread_local=False,
            blocking=False,
            fallback_to_soft=False,  # a soft lock outlives its holder and is not safe over NFS
            preserve_lock_file=True,  # unlinking would let two holders lock two inodes
        )

    def acquire(self) -> None:
        """Take the lock or raise `Locked` (at the latest after half a second).

        Raises `LockUnsupported` where the filesystem has no flock, OSError for other failures.
        Taking it twice through one object is the caller's mistake: RuntimeError.
        """
        if self._lock.is_locked:
            raise RuntimeError(f"{self.path} is already held through this object")
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not self._try():
            holder = self.holder()
            if holder is not None or time.monotonic() > deadline:
                raise Locked(self.path, holder)
            time.sleep(_POLL_SECONDS)
        try:
            faults.hit("lock.after_flock")
            publish_file(self.record_path, self._record(), durable=False)
        except BaseException:
            self._lock.release()
            raise

    def release(self) -> None:
        """Give the lock back; does nothing when it is not held."""
        if not self._lock.is_locked:
            return
        faults.hit("lock.before_release")
        # Before the flock goes: afterwards the record may already be the next holder's.
        self.record_path.unlink(missing_ok=True)
        self._lock.release()

    def holder(self) -> dict[str, Any] | None:
        """Return the record of who holds the lock now, None when it is free.

        Whoever is between taking the lock and publishing the record is waited for a moment;
        then all fields of the record are None.
        """
        return read_holder(self.path)

    def __enter__(self) -> SingleHolderLock:
        self.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()

    @property
    def record_path(self) -> Path:
        """Where the holder's record lies; written anew whenever the lock is taken."""
        return _record_path(self.path)

    def _try(self) -> bool:
        try:
            self._lock.acquire(blocking=False)
        except self._busy:
            return False
        except OSError as error:
            if error.errno in (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK):
                raise LockUnsupported(
                    error.errno,
                    f"{error.strerror}: the filesystem of {self.path} has no flock, and a marker"
                    " file would not be safe; put the state directory (ORCH_HOME) on a local disk"
                    " or on a filesystem mounted with flock",
                    str(self.path),
                ) from error
            raise
        return True

    def _record(self) -> bytes:
        me = ProcessIdentity.current()
        record: dict[str, object] = {
            **self._about,
            "host": socket.gethostname(),
            "boot_id": me.boot_id,
            "pid": me.pid,
            "pid_start": me.start,
            "since": time.time(),
        }
        return json.dumps(record, sort_keys=True).encode() + b"\n"


def read_holder(path: Path) -> dict[str, Any] | None:
    """Return the record of who holds the lock at `path`, None when nobody does."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while _is_held(path):
        record = _read_record(_record_path(path))
        if record is not None and not _surely_dead(record):
            return record
        if time.monotonic() > deadline:
            # Held, but by someone whose record we cannot have: never name the dead one before.
            return dict(_UNKNOWN_HOLDER)
        time.sleep(_POLL_SECONDS)
    return None


def _record_path(path: Path) -> Path:
    return path.with_name(path.name + ".holder.json")


def _is_held(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return True
        raise
    finally:
        os.close(descriptor)  # gives the shared lock back
    return False


def _read_record(path: Path) -> dict[str, Any] | None:
    try:
        with path.open("rb") as file:
            record = json.loads(file.read(_MAX_RECORD_BYTES))
    except (OSError, ValueError):
        return None
    return {**_UNKNOWN_HOLDER, **record} if isinstance(record, dict) else None


def _identity(record: Mapping[str, Any]) -> ProcessIdentity | None:
    """Return who the record names, if that is a process of this machine."""
    boot_id, pid, start = record.get("boot_id"), record.get("pid"), record.get("pid_start")
    if record.get("host") != socket.gethostname():
        return None
    if not isinstance(boot_id, str) or not isinstance(pid, int) or not isinstance(start, int):
        return None
    return ProcessIdentity(boot_id, pid, start)


def _surely_dead(record: Mapping[str, Any]) -> bool:
    identity = _identity(record)
    return identity is not None and not identity.alive()


def _describe(holder: Mapping[str, Any] | None) -> str:
    if holder is None or holder.get("pid") is None:
        return "another process (it has not said who it is)"
    text = f"pid {holder['pid']} on {holder['host']}"
    if isinstance(holder.get("command"), str):
        text += f" ({holder['command']})"
    if isinstance(holder.get("since"), int | float):
        since = datetime.fromtimestamp(float(holder["since"]), UTC)
        text += f" since {since:%Y-%m-%d %H:%M:%S} UTC"
    identity = _identity(holder)
    if identity is not None and identity.stopped():
        text += f"; it is stopped: `kill -CONT {holder['pid']}` lets it go on"
    return text
