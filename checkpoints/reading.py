"""Reading a checkpoint's files without trusting them: no links followed, no size believed.

An error that says "the file is not what it was" becomes `BrokenCheckpoint`. An error that says
"I cannot look now" (no descriptors, no permission, a stale handle) stays an OSError: it is
ignorance, not evidence, and must not move a good checkpoint into quarantine.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from checkpoints.blocks import BLOCK, first_difference
from checkpoints.errors import BrokenCheckpoint
from checkpoints.manifest import MANIFEST, MAX_MANIFEST_BYTES, FileEntry, digest_of
from durable import faults

_BUFFER = 1 << 16
_CHUNK = 4 << 20
_EVIDENCE = {
    errno.ENOENT: "is missing",
    errno.ENOTDIR: "lies below something that is not a directory",
    errno.ENXIO: "is a socket or a device, which a checkpoint never contains",
    errno.ELOOP: "is a symbolic link, which a checkpoint never contains",
    errno.EIO: "cannot be read: input/output error",
    errno.EUCLEAN: "cannot be read: the filesystem is damaged",
}


@contextmanager
def evidence(file: str) -> Iterator[None]:
    """Turn the OSErrors that are evidence of damage into `BrokenCheckpoint`."""
    try:
        yield
    except OSError as error:
        reason = _EVIDENCE.get(error.errno or 0)
        if reason is None:
            raise
        raise BrokenCheckpoint(reason, file) from error


@contextmanager
def open_within(root: Path, relative: str) -> Iterator[tuple[io.BufferedReader[io.FileIO], int]]:
    """Open a regular file below `root`, no component of which is a link; yield it and its size.

    Raises `BrokenCheckpoint` for missing files, links, devices, pipes; OSError otherwise.
    """
    *directories, name = relative.split("/")
    with evidence(relative):
        at = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            for directory in directories:
                inner = os.open(
                    directory,
                    os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC,
                    dir_fd=at,
                )
                os.close(at)
                at = inner
            # O_NONBLOCK: a pipe in place of a file must not make us wait for its writer.
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            descriptor = os.open(name, flags, dir_fd=at)
        finally:
            os.close(at)
        with io.BufferedReader(io.FileIO(descriptor), _BUFFER) as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise BrokenCheckpoint("is not a regular file", relative)
            yield file, status.st_size


def read_manifest_bytes(root: Path) -> bytes:
    """Return the bytes of MANIFEST.json. Raises `BrokenCheckpoint` if missing or too large."""
    with open_within(root, MANIFEST) as (file, size):
        if size > MAX_MANIFEST_BYTES:
            raise BrokenCheckpoint(
                "is too large", MANIFEST, expected=f"<= {MAX_MANIFEST_BYTES}", found=str(size)
            )
        return file.read(MAX_MANIFEST_BYTES + 1)


def read_entry(root: Path, entry: FileEntry) -> bytes:
    """Return a file's bytes after checking, on these very bytes, size and digest."""
    with open_within(root, entry.path) as (file, size):
        check_size(entry, size)
        faults.hit("verify.before_use")
        data = file.read(entry.bytes + 1)
    check_size(entry, len(data))
    view = memoryview(data)
    blocks = (view[start : start + BLOCK] for start in range(0, len(data), BLOCK))
    _check_digest(entry, digest_of(data), blocks)
    return data


def check_entry(root: Path, entry: FileEntry, *, cold: bool = False) -> None:
    """Check a file's size and digest without keeping it in memory.

    `cold`: ask the kernel to forget its copy first, so that the disk is read, not the page cache.
    """
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(min(_CHUNK, entry.bytes + 1)))
    with open_within(root, entry.path) as (file, size):
        check_size(entry, size)
        faults.hit("verify.before_file")
        if cold:
            with suppress(OSError):  # a wish: some filesystems keep their own cache
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        while count := file.readinto(buffer):
            digest.update(buffer[:count])
        file.seek(0)
        blocks = iter(lambda: file.read(BLOCK), b"")  # read again, if anything is wrong
        _check_digest(entry, f"sha256:{digest.hexdigest()}", blocks)


def check_size(entry: FileEntry, size: int) -> None:
    """Raise `BrokenCheckpoint` unless the file has the manifest's size in bytes."""
    if size != entry.bytes:
        raise BrokenCheckpoint(
            "size differs",
            entry.path,
            offset=min(size, entry.bytes),
            expected=f"{entry.bytes} bytes",
            found=f"{size} bytes",
        )


def _check_digest(entry: FileEntry, found: str, blocks: Iterable[bytes | memoryview]) -> None:
    if found != entry.digest:
        raise BrokenCheckpoint(
            "digest differs",
            entry.path,
            offset=first_difference(entry.blocks, blocks),
            expected=entry.digest,
            found=found,
        )
