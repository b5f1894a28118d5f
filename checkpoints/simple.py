"""The store for any script: give it bytes, get back what was verified. No torch in here.

    checkpoints = Checkpoints("checkpoints")
    if saved := checkpoints.load():
        restore(saved.files, saved.step)
    checkpoints.save(step, {"model.safetensors": …, "state.json": …})

Several ranks give `rank`, `world_size` and `gather`, and call everything together. Each opening
claims an epoch: of two copies of a script, the one that was opened last saves, the other is told.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from checkpoints.errors import BrokenCheckpoint, Fenced, StagingFailed
from checkpoints.manifest import FileEntry, ManifestHeader, Parent, Position, digest_of
from checkpoints.store import CheckpointStore, OpenCheckpoint
from durable.files import private_dir, publish_new
from jobs.spec import canonical_json

EPOCHS = "epochs"
Gather = Callable[[Any], list[Any]]


class SaveFailed(OSError):
    """Nothing was committed; the previous checkpoint stands. Raised on every rank alike."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A verified checkpoint, as this rank saved it."""

    name: str
    step: int
    files: Mapping[str, bytes]
    extra: Mapping[str, Any] = field(default_factory=dict)
    reports: tuple[str, ...] = ()  # of broken ones that were put into quarantine on the way


class Checkpoints:
    """A directory of validated checkpoints of one run.

    `root`: a directory of their own. `run`: whose they are; those of another run are refused.
    `gather`: a JSON-able value of each rank -> all ranks' values in rank order, on every rank
    (`torch.distributed.all_gather_object`). `keep`: verified checkpoints to keep, at least 2.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        run: str = "run",
        rank: int = 0,
        world_size: int = 1,
        gather: Gather | None = None,
        keep: int = 2,
    ) -> None:
        if world_size > 1 and gather is None:
            raise ValueError("several ranks need `gather`, e.g. around all_gather_object")
        self._root = private_dir(Path(root).absolute())
        self._rank, self._world_size, self._keep = rank, world_size, keep
        self._gather: Gather = gather or (lambda value: [value])
        run_digest = digest_of(run.encode())
        self._store = CheckpointStore(self._root, job=run, spec_digest=run_digest)
        self._order_digest = run_digest
        self._parent: Parent | None = None
        self._saves = 0
        self.epoch: int = self._gather(self._claim() if rank == 0 else 0)[0]

    def load(self) -> Loaded | None:
        """Return the newest checkpoint that every rank can load; None when there is none.

        What is broken goes into quarantine, with the reason beside it. Raises ValueError for a
        checkpoint of another world size, OSError when the directory cannot be looked at now,
        `NewerFormat`.
        """
        reports: list[str] = []
        while True:
            found = self._store.latest_verified(reports.append) if self._rank == 0 else None
            mine = (found.name, found.manifest.world_size) if found else (None, 0)
            name, ranks = self._gather(mine)[0]
            if name is None:
                return None
            if ranks != self._world_size:
                raise ValueError(f"{name} was saved by {ranks} ranks, these are {self._world_size}")
            loaded = self._read(name, reports)
            problems = [p for p in self._gather(None if loaded else "unreadable") if p]
            if not problems and loaded is not None:
                return loaded
            if self._rank == 0:
                self._store.quarantine(name, "a rank could not read its files")

    def save(
        self, step: int, files: Mapping[str, bytes], *, extra: Mapping[str, Any] | None = None
    ) -> str:
        """Commit a checkpoint of `step`, durably; return its name. All ranks together.

        `files`: this rank's, by plain file name. `extra`: JSON-able, rank 0's counts. Raises
        `SaveFailed`, and `Fenced` when a later opening holds the directory; on every rank alike.
        """
        self._saves += 1
        statuses = self._gather(self._stage(step, files))
        mine = self._commit(step, statuses, dict(extra or {})) if self._rank == 0 else None
        verdict: dict[str, str] = self._gather(mine)[0]
        if "fenced" in verdict:
            raise Fenced(verdict["fenced"])
        if "problem" in verdict:
            raise SaveFailed(verdict["problem"])
        self._parent = Parent(name=verdict["name"], digest=verdict["digest"])
        return verdict["name"]

    def _claim(self) -> int:
        folder = private_dir(self._root / EPOCHS)
        while True:
            epoch = self._highest_epoch() + 1
            claim = canonical_json({"epoch": epoch}) + b"\n"
            if publish_new(folder / f"{epoch:04d}.json", claim):
                self._store.sweep(epoch=epoch)
                return epoch

    def _highest_epoch(self) -> int:
        claimed = (path.stem for path in (self._root / EPOCHS).glob("[0-9]*.json"))
        return max(map(int, claimed), default=0)

    def _fence(self) -> None:
        highest = self._highest_epoch()
        if highest > self.epoch:
            raise Fenced(f"epoch {highest} holds {self._root}, this is epoch {self.epoch}")

    def _read(self, name: str, reports: list[str]) -> Loaded | None:
        try:
            opened: OpenCheckpoint = self._store.open(name)
            files = opened.read_rank(self._rank)
        except (BrokenCheckpoint, KeyError):
            return None
        self._parent = Parent(name=name, digest=opened.digest)
        manifest = opened.manifest
        return Loaded(
            name=name,
            step=manifest.step,
            files=files,
            extra=manifest.extra,
            reports=tuple(reports),
        )

    def _stage(self, step: int, files: Mapping[str, bytes]) -> dict[str, Any]:
        try:
            writer = self._store.stage(
                step=step, epoch=self.epoch, rank=self._rank, try_number=self._saves
            )
            for name in sorted(files):
                writer.write(name, files[name])
            return {"entries": [entry.model_dump(mode="json") for entry in writer.finish()]}
        except (OSError, StagingFailed) as error:
            return {"problem": f"rank {self._rank}: {error}"}

    def _commit(
        self, step: int, statuses: list[dict[str, Any]], extra: dict[str, Any]
    ) -> dict[str, str]:
        problems = [status["problem"] for status in statuses if "problem" in status]
        header = ManifestHeader(
            epoch=self.epoch,
            step=step,
            kind="periodic",
            parent=self._parent,
            world_size=self._world_size,
            position=Position(samples=step, order_digest=self._order_digest),
            states=(),
            extra=extra,
        )
        try:
            if problems:
                self._store.discard(step=step, epoch=self.epoch)
                return {"problem": "; ".join(problems)}
            entries = [FileEntry.model_validate(e) for s in statuses for e in s["entries"]]
            committed = self._store.commit(header, entries, fence=self._fence)
        except Fenced as error:
            return {"fenced": str(error)}
        except (OSError, BrokenCheckpoint) as error:
            return {"problem": str(error)}
        with suppress(OSError):  # costs space, not safety
            self._store.prune(self._keep)
        return {"name": committed.name, "digest": committed.digest}
