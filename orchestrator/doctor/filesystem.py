"""The file system below the state directory: type, space, locks, clock."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
import time
from pathlib import Path

from jobs.contract.environment import HOST_LOCKS
from orchestrator.doctor.check import Check, failed, passed, warned
from orchestrator.mounts import (
    VOLATILE,
    LockReach,
    is_network,
    lock_fix,
    lock_reach,
    mount_of,
    read_mountinfo,
)

_LEAST_BYTES = 200 << 20
_FEW_BYTES = 5 << 30
_FEW_INODES = 10_000
_SKEW_SECONDS = 5.0
_EARLIEST_WALL = 1_735_689_600.0  # 2025-01-01: a clock before it was never set


def nearest_directory(path: Path) -> Path:
    """Return `path`, or its nearest parent that is a directory."""
    while not path.is_dir():
        path = path.parent
    return path


def type_check(path: Path, mountinfo: str | None = None) -> Check:
    """Return whether the file system suits a state directory.

    `mountinfo` is the text of /proc/self/mountinfo.
    """
    name = "filesystem"
    mount = mount_of(path.resolve(), read_mountinfo() if mountinfo is None else mountinfo)
    kind, reach = mount.kind, lock_reach(mount)
    if reach in (LockReach.HOST_ONLY, LockReach.NONE):
        return failed(
            name,
            f"{kind} (network) at {path}: as it is mounted, its locks exclude {reach}",
            f"{lock_fix(mount)}; or move ORCH_HOME; {HOST_LOCKS}=accept where one host writes",
        )
    if is_network(kind):
        sure = "its locks reach all hosts" if reach is LockReach.HOSTS else "its locks may not"
        return warned(
            name,
            f"{kind} (network) at {path}",
            f"{sure}; where they fail, heartbeat and lease epoch keep a second host from writing;"
            " a local disk is quicker (ORCH_HOME)",
        )
    if kind in VOLATILE:
        return warned(
            name, f"{kind} (memory) at {path}", "set ORCH_HOME to a disk: a reboot empties this"
        )
    return passed(name, f"{kind} at {path}")


def space_check(path: Path) -> Check:
    """Return whether there is room for checkpoints."""
    usage = shutil.disk_usage(path)
    statistics = os.statvfs(path)
    shown = f"{usage.free / (1 << 30):.1f} GiB free of {usage.total / (1 << 30):.1f}"
    fix = "free some space, or set ORCH_HOME to a larger file system"
    if usage.free < _LEAST_BYTES:
        return failed("space", shown, fix)
    if usage.free < _FEW_BYTES:
        return warned("space", shown, fix)
    if statistics.f_files and statistics.f_favail < _FEW_INODES:
        return warned("space", f"{shown}; only {statistics.f_favail:,} inodes free", fix)
    return passed("space", shown)


def lock_check(directory: Path) -> Check:
    """Return whether flock excludes: two descriptors of one file may not both hold it."""
    fix = "mount it with locking (NFS: without nolock; Lustre: -o flock), or move ORCH_HOME"
    try:
        with tempfile.NamedTemporaryFile(dir=directory, prefix=".doctor-") as first:
            fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with Path(first.name).open("rb") as second:
                try:
                    fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError as error:
                    if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                        raise
                    return passed("locks", "flock excludes")
            return failed("locks", "flock lets two holders in: it is a no-op here", fix)
    except OSError as error:
        return failed("locks", f"flock in {directory}: {error.strerror}", fix)


def clock_check(directory: Path, *, wall: float | None = None) -> Check:
    """Return whether the clock is set and agrees with the file server's."""
    now = time.time() if wall is None else wall
    fix = "synchronise the clock (chrony, systemd-timesyncd)"
    if now < _EARLIEST_WALL:
        return failed("clock", f"it says {time.strftime('%Y-%m-%d', time.gmtime(now))}", fix)
    try:
        with tempfile.NamedTemporaryFile(dir=directory, prefix=".doctor-") as probe:
            skew = os.fstat(probe.fileno()).st_mtime - now
    except OSError as error:
        return failed("clock", f"no file can be written in {directory}: {error.strerror}", fix)
    if abs(skew) > _SKEW_SECONDS:
        return warned("clock", f"{skew:+.0f} s between this host and the file system", fix)
    return passed("clock", time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(now)))
