"""What a command saved: committed as a checkpoint of the store, verified before it is used.

The command fills a directory of its own attempt; committing moves that directory, whole, into the
store: hashed, fsynced, listed in a manifest, fenced, renamed. So P2, P3 and P4 hold for programs
that know nothing of them.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from checkpoints.errors import NewerFormat
from checkpoints.manifest import (
    Environment,
    FileEntry,
    ManifestHeader,
    Parent,
    Position,
    check_stored_path,
    rank_directory,
)
from checkpoints.staging import STAGING, staging_name
from checkpoints.store import CheckpointStore, OpenCheckpoint
from durable.faults import hit
from durable.files import AlreadyThere, fsync_dir, private_dir
from jobs.spec import semantic_digest
from worker.attempt import Attempt
from worker.claim import check_fence
from worker.failures import Misconfigured, Unreadable

MAX_FILES = 10_000
_BLOCK = 4 << 20


class NotKept(Exception):
    """What was saved cannot be committed; the message says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A committed state of a command."""

    name: str
    path: Path  # where its files lie
    step: int
    digest: str
    reasons: tuple[str, ...] = ()  # why what comes of it cannot be called exact
    packages: str | None = None


class Saves:
    """Rank 0's view of the job's store."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        spec = attempt.spec
        self._store = CheckpointStore(
            attempt.job.checkpoints, job=spec.id, spec_digest=semantic_digest(spec.semantic)
        )
        self.newest: Kept | None = None
        self.committed_here = False

    @property
    def directory(self) -> Path:
        """Where the command puts what it saves. Its name is swept if this attempt dies."""
        return save_directory(self._attempt)

    def resume(self, on_report: Callable[[str], None]) -> Kept | None:
        """Return the newest state whose every byte is right. Raises `Unreadable`, `Misconfigured`.

        Bad ones go to quarantine with a report.
        """
        try:
            self._store.sweep(epoch=self._attempt.epoch)
            opened = self._store.latest_verified(on_report)
        except NewerFormat as error:
            raise Misconfigured(str(error)) from error
        except OSError as error:
            raise Unreadable(f"checkpoints cannot be read now: {error}") from error
        self.newest = _kept(opened) if opened is not None else None
        private_dir(self.directory)
        return self.newest

    def holds_something(self) -> bool:
        """Return whether the directory has files that are not committed."""
        return any(names for _, _, names in os.walk(self.directory))

    def commit(self, step: int, *, reasons: tuple[str, ...] = ()) -> Kept:
        """Commit what lies in the directory as the state after `step`; the directory is empty then.

        Raises `NotKept`, `Fenced`, OSError; what was saved then stays where it is, if it can.
        """
        attempt = self._attempt
        check_fence(attempt.job, attempt.epoch)  # who holds the job sweeps what older ones saved
        if not self.holds_something():
            raise NotKept("there is nothing to keep: save into save_path() first")
        try:
            shard = self._store.stage(step=step, epoch=attempt.epoch, rank=0)
        except AlreadyThere as error:
            raise NotKept(f"a state of step {step} is committed already") from error
        staged = shard.directory
        self.directory.rename(staged)  # onto the empty directory, in one filesystem
        try:
            entries = _entries(staged)
            hit("saves.hashed")
            committed = self._store.commit(
                self._header(step, reasons),
                entries,
                fence=lambda: check_fence(attempt.job, attempt.epoch),
            )
        except BaseException:
            if staged.is_dir():
                staged.rename(self.directory)
            raise
        private_dir(self.directory)
        self.committed_here = True
        self.newest = Kept(
            name=committed.name,
            path=committed.path / rank_directory(0),
            step=step,
            digest=committed.digest,
            reasons=reasons,
            packages=attempt.claim.packages,
        )
        return self.newest

    def tidy(self) -> None:
        """Remove the directory if nothing is in it."""
        with suppress(OSError):
            self.directory.rmdir()
            self.directory.parent.rmdir()

    def prune(self, keep: int) -> None:
        """Delete superseded states. Raises OSError."""
        self._store.prune(keep)

    def _header(self, step: int, reasons: tuple[str, ...]) -> ManifestHeader:
        parent = self.newest
        return ManifestHeader(
            epoch=self._attempt.epoch,
            step=step,
            kind="command",
            parent=Parent(name=parent.name, digest=parent.digest) if parent else None,
            world_size=1,  # rank 0 saves for all
            position=Position(samples=0, order_digest="command"),
            states=("command",),
            environment=Environment(packages=self._attempt.claim.packages),
            extra={"inexact_reasons": list(reasons)},
        )


def save_directory(attempt: Attempt) -> Path:
    """Return where an attempt's command saves; it lies in the store's own filesystem."""
    name = staging_name(step=0, epoch=attempt.epoch, try_number=0)
    return attempt.job.checkpoints / STAGING / name / rank_directory(0)


def _kept(opened: OpenCheckpoint) -> Kept:
    reasons = opened.manifest.extra.get("inexact_reasons", ())
    return Kept(
        name=opened.name,
        path=opened.path / rank_directory(0),
        step=opened.manifest.step,
        digest=opened.digest,
        reasons=tuple(map(str, reasons)) if isinstance(reasons, list) else (),
        packages=opened.manifest.environment.packages,
    )


def _entries(directory: Path) -> list[FileEntry]:
    """Hash and fsync every file. Raises `NotKept` for links, odd names and too many files."""
    entries: list[FileEntry] = []
    for folder, directories, names in os.walk(directory, topdown=False):
        linked = [name for name in directories if Path(folder, name).is_symlink()]
        for name in sorted([*names, *linked]):
            path = Path(folder, name)
            relative = path.relative_to(directory).as_posix()
            if len(entries) == MAX_FILES:
                raise NotKept(f"more than {MAX_FILES:,} files: save fewer, e.g. in an archive")
            if not stat.S_ISREG(path.lstat().st_mode):
                raise NotKept(f"{relative!r} is a link or a special file: save plain files")
            entries.append(_entry(path, relative))
        if not any(Path(folder).iterdir()):
            Path(folder).rmdir()  # a manifest lists files only
        else:
            fsync_dir(Path(folder))
    return entries


def _entry(path: Path, relative: str) -> FileEntry:
    try:
        check_stored_path(relative)
    except ValueError as error:
        raise NotKept(str(error)) from error
    digest, size = hashlib.sha256(), 0
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        while block := os.read(descriptor, _BLOCK):
            digest.update(block)
            size += len(block)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    try:
        return FileEntry(
            path=f"{rank_directory(0)}/{relative}",
            rank=0,
            bytes=size,
            digest=f"sha256:{digest.hexdigest()}",
        )
    except ValueError as error:
        raise NotKept(str(error)) from error
