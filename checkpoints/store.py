"""The store of one job's checkpoints: stage, commit, verify, load, quarantine, prune.

    step-00001200.e0003/MANIFEST.json, rank-00000/<name> ...   committed
    staging/step-00001200.e0003.t1/...                         being written
    quarantine/, trash/                                        see those modules

Nothing is overwritten; nothing is deleted before a newer one is verified; nothing is used
before every byte was compared with the manifest.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from checkpoints import removal
from checkpoints.errors import BrokenCheckpoint, NewerFormat
from checkpoints.manifest import (
    MANIFEST,
    FileEntry,
    Manifest,
    ManifestHeader,
    digest_of,
    encode_manifest,
)
from checkpoints.quarantine import quarantine
from checkpoints.reading import read_entry
from checkpoints.retention import newest_first, plan_retention
from checkpoints.staging import STAGING, ShardWriter, staging_name
from checkpoints.verification import Owner, Surveyed, canonical_name, check_tree, survey, verify
from durable import faults
from durable.files import (
    AlreadyThere,
    fsync_above,
    fsync_dir,
    private_dir,
    publish_dir,
    write_durable,
)
from jobs.contract.paths import checkpoint_name


@dataclass(frozen=True, slots=True, kw_only=True)
class CommittedCheckpoint:
    """A checkpoint that survives a power cut. `digest` is the manifest file's."""

    name: str
    path: Path
    digest: str
    manifest: Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenCheckpoint:
    """A checkpoint to load from. Each file is checked again on the very bytes returned."""

    name: str
    path: Path
    digest: str
    manifest: Manifest

    def read(self, path: str) -> bytes:
        """Return the bytes of the file `path` ("rank-00000/<name>").

        Raises KeyError if the manifest does not list it, `BrokenCheckpoint` if it is not what the
        manifest says, OSError if it cannot be looked at.
        """
        for entry in self.manifest.files:
            if entry.path == path:
                return read_entry(self.path, entry)
        raise KeyError(f"{self.name} has no file {path}")

    def read_rank(self, rank: int) -> dict[str, bytes]:
        """Return all files of a rank by name, as it wrote them; raises like `read`."""
        entries = [entry for entry in self.manifest.files if entry.rank == rank]
        if not entries:
            raise KeyError(f"{self.name} has no rank {rank}, only {self.manifest.world_size}")
        return {entry.path.partition("/")[2]: read_entry(self.path, entry) for entry in entries}


class CheckpointStore:
    """`jobs/<id>/checkpoints/`. One attempt writes, whoever likes reads.

    Every rank uses one store object for the whole attempt: it counts the tries of each save, so
    that all ranks agree on a staging directory without talking.
    """

    def __init__(self, root: Path, *, job: str, spec_digest: str) -> None:
        self.root = root
        self._owner = Owner(job=job, spec_digest=spec_digest)
        self._tries: dict[tuple[int, int], dict[int, int]] = {}  # (epoch, step) -> rank -> tries
        self._verified: dict[str, int] = {}  # name -> inode, verified by this object
        self._reachable = False  # the names that lead to `root` are durable
        self._pruning = threading.Lock()

    def stage(
        self, *, step: int, epoch: int, rank: int, try_number: int | None = None
    ) -> ShardWriter:
        """Begin this rank's shard of one save. All ranks call it once per save, in lockstep.

        `try_number`: which try at this very step and epoch, from 1, if the ranks agree on it
        themselves; otherwise each counts its own calls. Raises `AlreadyThere` if that checkpoint
        is committed, OSError.
        """
        tries = self._tries.setdefault((epoch, step), {})
        # Before anything can fail, so that ranks count alike.
        tries[rank] = try_number or tries.get(rank, 0) + 1
        final = self.root / checkpoint_name(step=step, epoch=epoch)
        if os.path.lexists(final):
            raise AlreadyThere(f"{final} is committed already; a checkpoint is never replaced")
        return ShardWriter(self._staged(step=step, epoch=epoch, try_number=tries[rank]), rank=rank)

    def commit(
        self, header: ManifestHeader, entries: Iterable[FileEntry], *, fence: Callable[[], None]
    ) -> CommittedCheckpoint:
        """Give the staged shards of all ranks their name (rank 0, after all have finished).

        `fence` raises if a higher epoch holds the job. It is called immediately before the rename,
        and once more if something was missing: a newer epoch sweeps what older ones have staged,
        so that none is renamed after its claim. Raises ValueError if the entries are not those of
        all ranks, `BrokenCheckpoint` if the staged files are not those of the entries,
        `AlreadyThere`, OSError. Whatever it raises, nothing was committed and this try is dead:
        stage anew, or go on without.
        """
        assert self._owner.job is not None
        assert self._owner.spec_digest is not None
        manifest = Manifest.model_validate(
            {
                **header.model_dump(),
                "job": self._owner.job,
                "spec_digest": self._owner.spec_digest,
                "files": sorted((e.model_dump() for e in entries), key=lambda e: str(e["path"])),
            }
        )
        data = encode_manifest(manifest)
        final = self.root / header.name
        try:
            staged = self._current(step=header.step, epoch=header.epoch)
            check_tree(staged, manifest.files)
            faults.hit("commit.before_manifest")
            write_durable(staged / MANIFEST, data)
            faults.hit("commit.after_manifest")
            self._publish(staged, final, fence=fence)
        except (BrokenCheckpoint, FileNotFoundError):
            fence()
            raise
        return CommittedCheckpoint(
            name=header.name, path=final, digest=digest_of(data), manifest=manifest
        )

    def discard(self, *, step: int, epoch: int) -> None:
        """Throw away whatever is staged for one save, after it failed (rank 0, own epoch).

        All tries go: on a full disk the space matters, and a rank may have failed before it could
        begin the try of the others. What cannot be deleted now is left to the next sweep.
        """
        removal.discard(self.root, checkpoint_name(step=step, epoch=epoch))

    def candidates(self) -> list[str]:
        """Return the names of committed checkpoints, newest first by (epoch, step), unverified."""
        try:
            return newest_first(entry.name for entry in self.root.iterdir())
        except FileNotFoundError:
            return []

    def verify(self, name: str, *, cold: bool = False) -> Manifest:
        """Compare every byte with the manifest. Raises `BrokenCheckpoint`, or OSError.

        `cold`: read the disk, not the page cache, where the system allows it.
        """
        return self._verify(name, cold=cold).manifest

    def open(self, name: str) -> OpenCheckpoint:
        """Open a checkpoint: manifest, files and sizes are checked now, contents when read.

        Raises `BrokenCheckpoint`, or OSError: it could not be looked at.
        """
        return self._opened(name, survey(self._path(name), owner=self._owner))

    def quarantine(self, name: str, reason: BrokenCheckpoint | str) -> Path:
        """Move a checkpoint away with the reason; return where to. Raises FileNotFoundError."""
        self._path(name)
        problem = reason if isinstance(reason, BrokenCheckpoint) else BrokenCheckpoint(reason, "")
        self._verified.pop(name, None)
        return quarantine(self.root, name, problem)

    def latest_verified(self, on_report: Callable[[str], None]) -> OpenCheckpoint | None:
        """Return the newest checkpoint whose every byte is right; None if there is none.

        Bad ones are quarantined and reported, one line each. Raises `NewerFormat` rather than
        skip work of a newer orch; OSError if one cannot be looked at (that is no evidence).
        """
        for name in self.candidates():
            try:
                return self._opened(name, self._verify(name))
            except NewerFormat:
                raise
            except BrokenCheckpoint as problem:
                with suppress(FileNotFoundError):  # pruned or moved by another attempt meanwhile
                    cell = self.quarantine(name, problem)
                    on_report(
                        f"checkpoint {name} quarantined: {problem}; evidence in"
                        f" {cell.relative_to(self.root.parent)}"
                    )
        return None

    def prune(
        self, keep: int = 2, protect: Collection[str] = (), *, every_steps: int | None = None
    ) -> list[str]:
        """Delete what the `keep` newest verified checkpoints supersede; return the names.

        Each is verified, by reading it, once per store object. `protect`: names that stay (the
        best one); `every_steps`: see `plan_retention`. Raises ValueError for `keep` < 2, OSError.
        """
        with self._pruning:
            return self._prune(keep, protect, every_steps=every_steps)

    def _prune(self, keep: int, protect: Collection[str], *, every_steps: int | None) -> list[str]:
        plan_retention((), verified=(), keep=keep)
        names = self.candidates()
        plan = plan_retention(
            names,
            verified=self._newest_verified(names, keep),
            keep=keep,
            protect=protect,
            every_steps=every_steps,
        )
        if plan.delete:
            fsync_dir(self.root)  # the newer names must be durable before an older one goes
        for name in plan.delete:
            removal.remove(self.root, self.root / name)
        return list(plan.delete)

    def sweep(self, *, epoch: int) -> list[str]:
        """Delete what crashed attempts older than `epoch` left in staging, and the trash."""
        return removal.sweep(self.root, epoch=epoch)

    def _newest_verified(self, names: list[str], keep: int) -> list[str]:
        verified: list[str] = []
        for name in names:
            if len(verified) == keep:
                break
            with suppress(BrokenCheckpoint):  # not counted; loading quarantines and reports it
                if self._verified.get(name) != self._path(name).lstat().st_ino:
                    self._verify(name)
                verified.append(name)
        return verified

    def _verify(self, name: str, *, cold: bool = False) -> Surveyed:
        path = self._path(name)
        surveyed = verify(path, owner=self._owner, cold=cold)
        self._verified[name] = path.lstat().st_ino
        return surveyed

    def _opened(self, name: str, surveyed: Surveyed) -> OpenCheckpoint:
        return OpenCheckpoint(
            name=name,
            path=self._path(name),
            digest=surveyed.digest,
            manifest=surveyed.manifest,
        )

    def _publish(self, staged: Path, final: Path, *, fence: Callable[[], None]) -> None:
        def last_checks() -> None:
            faults.hit("commit.before_fence")
            fence()
            faults.hit("commit.before_rename")

        if not self._reachable:
            fsync_above(self.root)
            self._reachable = True
        inode = staged.stat().st_ino
        try:
            publish_dir(staged, final, before_rename=last_checks)
            faults.hit("commit.after_rename")
        except OSError:
            # Renamed, but not known to be durable: take the name back, so that "raised" means
            # "not committed". If this fails too, the directory is whole and stays a candidate.
            with suppress(OSError):
                if final.lstat().st_ino == inode:
                    final.rename(staged)
            raise

    def _current(self, *, step: int, epoch: int) -> Path:
        tries = self._tries.get((epoch, step))
        if tries is None:
            raise ValueError(f"step {step} of epoch {epoch} was not staged through this store")
        return self._staged(step=step, epoch=epoch, try_number=max(tries.values()))

    def _staged(self, *, step: int, epoch: int, try_number: int) -> Path:
        name = staging_name(step=step, epoch=epoch, try_number=try_number)
        return private_dir(self.root / STAGING) / name

    def _path(self, name: str) -> Path:
        if canonical_name(name) is None:
            raise ValueError(f"{name!r} is not the name of a checkpoint, e.g. step-00001200.e0003")
        return self.root / name
