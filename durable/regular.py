"""Reading what somebody else may have put there: regular files, up to a size, without waiting."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def read_regular(path: Path, *, limit: int) -> bytes:
    """Return at most `limit` bytes of a file.

    A link is not followed; a pipe or a device, which could keep its reader waiting for ever, is not
    read. Raises OSError (ELOOP for a link, EISDIR, EINVAL for what else is no regular file).
    """
    descriptor = os.open(path, _FLAGS)
    with open(descriptor, "rb", buffering=0) as file:  # noqa: PTH123 - a descriptor, no path
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "is not a regular file", str(path))
        data = bytearray()
        while len(data) < limit and (block := file.read(limit - len(data))):
            data += block
        return bytes(data)
