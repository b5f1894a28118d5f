"""The file system below the state directory: type, space, locks, clock."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
import time
from pathlib import Path

from orchestrator.doctor.check import Check, failed, passed, warned

_NETWORK = frozenset(
    {"nfs", "nfs4", "lustre", "gpfs", "beegfs", "ceph", "cifs", "smb3", "smbfs", "afs", "9p"}
)
_VOLATILE = frozenset({"tmpfs", "ramfs"})
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


def filesystem_type(path: Path, mountinfo: str | None = None) -> str:
    """Return the type of the file system that holds `path`, e.g. `ext4`; `unknown` elsewhere.

    `mountinfo` is the text of /proc/self/mountinfo.
    """
    if mountinfo is None:
        source = Path("/proc/self/mountinfo")
        if not source.exists():
            return "unknown"
        mountinfo = source.read_text(encoding="utf-8", errors="replace")
    best, kind = "", "unknown"
    target = path.resolve()
    for line in mountinfo.splitlines():
        fields, _, rest = line.partition(" - ")
        parts = fields.split()
        if len(parts) < 5 or not rest:
            continue
        mount = parts[4].encode().decode("unicode_escape")  # blanks are written as \040
        if target.is_relative_to(mount) and len(mount) >= len(best):
            best, kind = mount, rest.split()[0]
    return kind


def type_check(path: Path, kind: str) -> Check:
    """Return whether the kind of file system suits a state directory."""
    name = "filesystem"
    if kind in _NETWORK or kind.startswith("fuse"):
        return warned(
            name,
            f"{kind} (network) at {path}",
            "works where flock works between hosts; run watchers on one host only, and put"
            " ORCH_HOME on a local disk where you can",
        )
    if kind in _VOLATILE:
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
