"""Which file system holds a path, and how far its locks reach. Pure, given mountinfo's text.

Only what a mount says of itself is believed: where a file system's locks are known to end at this
host, two hosts could both hold the writer's lock.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

NETWORK = frozenset(
    {
        "nfs", "nfs4", "lustre", "gpfs", "beegfs", "ceph", "cifs", "smb3", "smbfs", "afs", "9p",
        "wekafs", "panfs", "pvfs2", "orangefs", "glusterfs", "ocfs2", "gfs2",
    }
)  # fmt: skip
VOLATILE = frozenset({"tmpfs", "ramfs"})
_MOUNTINFO = Path("/proc/self/mountinfo")


class LockReach(StrEnum):
    """Between whom `flock` on a file system excludes."""

    ONE_HOST = "one host"  # a disk of this host: nobody else can mount it
    HOSTS = "all hosts"
    HOST_ONLY = "this host only"  # a network file system whose locks end here
    NONE = "nobody"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """One line of mountinfo; `options` are those of the mount and of the file system."""

    point: str
    kind: str
    options: frozenset[str] = frozenset()


UNKNOWN_MOUNT = Mount(point="/", kind="unknown")


def read_mountinfo() -> str:
    """Return the text of /proc/self/mountinfo; empty where there is none."""
    try:
        return _MOUNTINFO.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def mount_of(path: Path, mountinfo: str) -> Mount:
    """Return the mount that holds an absolute, resolved path; later lines cover earlier ones."""
    best = UNKNOWN_MOUNT
    length = -1
    for line in mountinfo.splitlines():
        fields, _, rest = line.partition(" - ")
        parts, kinds = fields.split(), rest.split()
        if len(parts) < 6 or not kinds:
            continue
        point = _plain(parts[4])
        if path.is_relative_to(point) and len(point) >= length:
            words = [*parts[5].split(","), *(kinds[2].split(",") if len(kinds) > 2 else ())]
            best, length = Mount(point=point, kind=kinds[0], options=frozenset(words)), len(point)
    return best


def _plain(escaped: str) -> str:
    """Return a mount point without mountinfo's octal escapes (a blank is `\\040`)."""
    for character in " \t\n":
        escaped = escaped.replace(f"\\{ord(character):03o}", character)
    return escaped.replace("\\134", "\\")


def is_network(kind: str) -> bool:
    """Return whether other hosts may see such a file system."""
    return kind in NETWORK or kind.startswith("fuse")


def lock_reach(mount: Mount) -> LockReach:
    """Return how far `flock` reaches, as far as the mount's options tell."""
    if not is_network(mount.kind):
        return LockReach.UNKNOWN if mount.kind == "unknown" else LockReach.ONE_HOST
    for options, reach in _TOLD.get(mount.kind, ()):
        if mount.options & options:
            return reach
    return LockReach.UNKNOWN


def lock_fix(mount: Mount) -> str:
    """Return how to mount the file system so that its locks reach all hosts."""
    return _FIXES.get(mount.kind, "mount it with cluster-wide flock")


_FLOCK = (
    (frozenset({"noflock"}), LockReach.NONE),
    (frozenset({"localflock"}), LockReach.HOST_ONLY),
    (frozenset({"flock"}), LockReach.HOSTS),
)
_NFS = (
    (frozenset({"nolock", "local_lock=all", "local_lock=flock"}), LockReach.HOST_ONLY),
    (frozenset({"local_lock=none", "local_lock=posix"}), LockReach.HOSTS),
)
# First match wins. What is not here (GPFS, BeeGFS, FUSE) does not say it in its mount options.
_TOLD = {
    "lustre": _FLOCK,
    "nfs": _NFS,
    "nfs4": _NFS,
    "ocfs2": ((frozenset({"localflocks"}), LockReach.HOST_ONLY),),
    "gfs2": ((frozenset({"localflocks"}), LockReach.HOST_ONLY),),
    "cifs": ((frozenset({"nobrl", "nolock"}), LockReach.HOST_ONLY),),
    "smb3": ((frozenset({"nobrl", "nolock"}), LockReach.HOST_ONLY),),
}
_FIXES = {
    "lustre": "mount it with -o flock",
    "nfs": "mount it without nolock and with local_lock=none",
    "nfs4": "mount it with local_lock=none",
    "ocfs2": "mount it without localflocks",
    "gfs2": "mount it without localflocks",
    "cifs": "mount it without nobrl",
    "smb3": "mount it without nobrl",
}
