"""Making a whole filesystem durable at once, where that says the truth.

Ten thousand fsyncs cost ten thousand turns of the journal; one `syncfs` writes the same bytes in
one. It counts as durable only where it is known to wait for the device and to tell of errors:
Linux from 5.8 on, which reports write-back errors since the descriptor was opened, and local
file systems whose own sync does it. On all others (FUSE among them, where the daemon is not told)
the caller must fsync file by file.
"""

from __future__ import annotations

import ctypes
import os
import platform
import re
from pathlib import Path

from durable import faults

# Not NFS or Lustre: there a server decides, and only its answer to an fsync is specified.
_HONEST = frozenset({"ext3", "ext4", "xfs", "f2fs", "tmpfs"})
_MOUNTS = Path("/proc/self/mountinfo")
_REPORTS_ERRORS_SINCE = (5, 8)


def filesystem_kind(device: int, mountinfo: str) -> str | None:
    """Return the type of the filesystem with this `st_dev`; None where it is not listed."""
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in mountinfo.splitlines():
        fields, separator, rest = line.partition(" - ")
        parts = fields.split()
        if separator and len(parts) > 2 and parts[2] == wanted:
            return rest.split(" ", 1)[0]
    return None


class FilesystemSync:
    """One filesystem, opened before anything is written that `sync` must answer for."""

    def __init__(self, descriptor: int, device: int) -> None:
        self._descriptor = descriptor
        self.device = device

    @classmethod
    def open(cls, directory: Path) -> FilesystemSync | None:
        """Open the filesystem that holds a directory; None where its sync is no proof."""
        if not _kernel_reports_errors(platform.release()) or not hasattr(_libc(), "syncfs"):
            return None
        try:
            mountinfo = _MOUNTS.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        device = os.fstat(descriptor).st_dev
        if filesystem_kind(device, mountinfo) not in _HONEST:
            os.close(descriptor)
            return None
        return cls(descriptor, device)

    def sync(self) -> None:
        """Make all that was written so far durable. Raises OSError, also for earlier errors."""
        faults.hit("files.before_syncfs")
        if _libc().syncfs(self._descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, f"syncfs: {os.strerror(number)}")

    def close(self) -> None:
        """Forget the filesystem."""
        os.close(self._descriptor)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _kernel_reports_errors(release: str) -> bool:
    version = re.match(r"(\d+)\.(\d+)", release)
    return version is not None and (int(version[1]), int(version[2])) >= _REPORTS_ERRORS_SINCE
