"""Staging: where the ranks put their shards before a checkpoint gets its name.

All ranks of one save write below one directory that nobody else uses: its name has step, epoch
and the number of this save's try. Ranks stage in lockstep, so each counts the same tries.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from checkpoints.blocks import BlockSums, block_sums
from checkpoints.errors import StagingFailed
from checkpoints.manifest import FileEntry, check_file_name, digest_of, rank_directory
from durable import faults
from durable.files import fsync_dir, private_dir, stream_durable, write_durable
from jobs.contract.paths import checkpoint_name

STAGING = "staging"
COPIED_BYTES = 4 << 20  # of a file at a time
HASHED_BESIDE_BYTES = 8 << 20  # a file of this size is hashed while it is written
_STAGING_NAME = re.compile(r"step-\d{8,}\.e(\d{4,})\.t\d+")


def staging_name(*, step: int, epoch: int, try_number: int) -> str:
    """Return the directory name of one try at one save."""
    return f"{checkpoint_name(step=step, epoch=epoch)}.t{try_number}"


def staging_epoch(name: str) -> int | None:
    """Return the epoch that owns a staging directory, None for names that are not ours."""
    match = _STAGING_NAME.fullmatch(name)
    return int(match[1]) if match else None


class ShardWriter:
    """One rank's part of one checkpoint. After the first failure it is dead for good."""

    def __init__(self, directory: Path, *, rank: int) -> None:
        self.rank = rank
        self.directory = directory / rank_directory(rank)
        self._entries: list[FileEntry] = []
        self._dead: str | None = None
        faults.hit("stage.before_mkdir")
        private_dir(directory)
        # Must be new: an existing one has files of a try that failed, or of another rank.
        self.directory.mkdir(mode=0o700)
        faults.hit("stage.after_mkdir")

    def write(self, name: str, *data: bytes | memoryview) -> FileEntry:
        """Write and fsync one file; its digest is of `data` in memory, not of what was stored.

        Several parts follow one another in the file: what is large need not be copied together.

        Raises ValueError for a bad or repeated name, `StagingFailed` after an earlier failure,
        OSError when writing fails: this shard is then dead, nothing of it may be used.
        """
        self._check_open()
        path = f"{rank_directory(self.rank)}/{check_file_name(name)}"
        if any(entry.path.casefold() == path.casefold() for entry in self._entries):
            raise ValueError(f"{path} was written already")
        parts = [memoryview(part).cast("B") for part in data]
        size = sum(part.nbytes for part in parts)
        try:
            faults.hit("stage.before_write")
            digest, blocks = self._write(name, parts, size=size)
            faults.hit("stage.after_write")
        except BaseException as error:
            self._dead = f"{path}: {error}"
            raise
        entry = FileEntry(path=path, rank=self.rank, bytes=size, digest=digest, blocks=blocks)
        self._entries.append(entry)
        return entry

    def write_all(self, files: Mapping[str, Sequence[bytes | memoryview]]) -> None:
        """Write several files, each of its parts, by name. Raises like `write`."""
        for name, parts in sorted(files.items()):
            self.write(name, *parts)

    def copy(self, name: str, source: Path, *, digest: str) -> FileEntry:
        """Copy a file in one stream, which must have this digest; otherwise as `write`.

        Raises `StagingFailed` when it cannot be read, or what was read is something else.
        """
        self._check_open()
        path = f"{rank_directory(self.rank)}/{check_file_name(name)}"
        hashed, blocks, size = hashlib.sha256(), BlockSums(), 0

        def chunks() -> Iterator[bytes]:
            nonlocal size
            for data in _read(source):
                hashed.update(data)
                blocks.update(data)
                size += len(data)
                yield data

        try:
            faults.hit("stage.before_write")
            stream_durable(self.directory / name, chunks())
            faults.hit("stage.after_write")
            if f"sha256:{hashed.hexdigest()}" != digest:
                raise StagingFailed(f"{source}: what was read back is not what was written")
        except BaseException as error:
            self._dead = f"{path}: {error}"
            raise
        entry = FileEntry(
            path=path, rank=self.rank, bytes=size, digest=digest, blocks=blocks.text()
        )
        self._entries.append(entry)
        return entry

    def finish(self) -> list[FileEntry]:
        """Make the shard durable and return its files, for rank 0 to commit."""
        self._check_open()
        try:
            faults.hit("stage.before_finish")
            fsync_dir(self.directory)
        except BaseException as error:
            self._dead = str(error)
            raise
        entries = list(self._entries)
        self._dead = "the shard is finished"
        return entries

    def _write(self, name: str, parts: list[memoryview], *, size: int) -> tuple[str, str]:
        """Write the parts; return their digest and the sums of their blocks."""
        if size < HASHED_BESIDE_BYTES:
            sums = _sums(parts)
            write_durable(self.directory / name, *parts)
            return sums
        # Both let go of the interpreter: of the two times only the longer one is waited for.
        found: list[tuple[str, str]] = []
        hashing = threading.Thread(
            target=lambda: found.append(_sums(parts)), name="hash", daemon=True
        )
        hashing.start()
        try:
            write_durable(self.directory / name, *parts)
        finally:
            hashing.join()
        if not found:
            raise StagingFailed(f"{name} could not be hashed")
        return found[0]

    def _check_open(self) -> None:
        if self._dead is not None:
            raise StagingFailed(
                f"{self.directory} takes no more files: {self._dead}; stage the checkpoint anew"
            )


def _read(source: Path) -> Iterator[bytes]:
    try:
        with source.open("rb", buffering=0) as file:
            while data := file.read(COPIED_BYTES):
                yield data
    except OSError as error:
        raise StagingFailed(f"{source}: {error.strerror}") from error


def _sums(parts: list[memoryview]) -> tuple[str, str]:
    return digest_of(*parts), block_sums(*parts)
