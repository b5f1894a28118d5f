"""Those who save in turns in `checkpoint.py`: ours, and peers."""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions

from checkpoints.manifest import ManifestHeader, Position
from checkpoints.store import CheckpointStore
from jobs.contract.paths import JobDir
from jobs.spec import Run
from worker.background import BackgroundSaves
from worker.channel import Channel
from worker.committer import Committer, PendingSave
from worker.engine import Engine
from worker.metrics import Curve
from worker.snapshot import HostMemory, copy_state
from worker.store_client import BoundedStore


class Contestant(ABC):
    """One way to save the engine's state."""

    name = ""
    fsyncs = False

    def __init__(self, engine: Engine, root: Path) -> None:
        self.engine, self.root = engine, root
        root.mkdir()

    @abstractmethod
    def save(self, step: int) -> None:
        """Save; return when the training may go on."""

    def finish(self) -> float | None:
        """Wait until the save is down; return what that took, None: it was when `save` returned."""
        return None

    @abstractmethod
    def place(self, step: int) -> Path:
        """Return where the save of a step lies."""

    @abstractmethod
    def read(self, step: int) -> None:
        """Read it back. Raises what is raised about damage."""

    def state(self) -> dict[str, Any]:
        """Return what the peers save: the same tensors as ours."""
        optimizer = self.engine.deepspeed.optimizer
        return {"model": self.engine.module.state_dict(), "optimizer": optimizer.state_dict()}


class Ours(Contestant):
    """The worker's own path, waited for."""

    name, fsyncs = "ours, waited for", True

    def __init__(self, engine: Engine, root: Path) -> None:
        super().__init__(engine, root)
        job = JobDir(root)
        job.epochs.mkdir()
        run = Run.model_validate({"save": {"keep": 2}})
        attempt: Any = SimpleNamespace(epoch=1, job=job, spec=SimpleNamespace(run=run))
        self.store = CheckpointStore(job.checkpoints, job="0" * 16, spec_digest="1" * 64)
        channel = Channel(
            BoundedStore(dist.HashStore(), timeout_seconds=60.0),
            rank=0,
            world_size=1,
            timeout_seconds=60.0,
        )
        self.committer = Committer(
            attempt=attempt,
            store=self.store,
            channel=channel,
            curve=Curve(root / "metrics.jsonl"),
            say=print,
        )
        self.saves = BackgroundSaves(
            attempt=attempt,
            store=self.store,
            channel=channel.sibling("background", timeout_seconds=60.0),
            beside=self.committer,
            memory=HostMemory(keep=True),
        )

    def taken(self, step: int) -> PendingSave:
        """Copy the state."""
        began = time.monotonic()
        header = ManifestHeader(
            epoch=1,
            step=step,
            kind="periodic",
            world_size=1,
            position=Position(samples=step, order_digest="sha256:" + "0" * 64),
            states=("model", "optimizer", "rng"),
        )
        copies = copy_state(self.engine, self.saves.memory)
        return PendingSave(header=header, copies=copies, best=None, began=began)

    def save(self, step: int) -> None:
        """Save; see `Contestant`."""
        verdict = self.committer.attempt(self.taken(step))
        assert "name" in verdict, verdict

    def place(self, step: int) -> Path:
        """Return where it lies."""
        return self.store.root / f"step-{step:08d}.e0001"

    def read(self, step: int) -> None:
        """Read it back."""
        self.store.verify(self.place(step).name)


class Behind(Ours):
    """The worker's own path, behind the steps."""

    name = "ours, behind the training"

    def save(self, step: int) -> None:
        """Save; see `Contestant`."""
        self.saves.start(self.taken(step))

    def finish(self) -> float | None:
        """Wait until it is down."""
        current = self.saves.current
        assert current is not None
        current.wait(lambda: False)
        assert current.error is None, current.error
        assert current.verdict is not None
        assert "name" in current.verdict, current.verdict
        current.join()  # pruned, too
        self.saves.settled()
        return float(current.verdict["seconds"])


class TorchSave(Contestant):
    """torch.save, as it is."""

    name = "torch.save"

    def save(self, step: int) -> None:
        """Save; see `Contestant`."""
        torch.save(self.state(), self.place(step))

    def place(self, step: int) -> Path:
        """Return where it lies."""
        return self.root / f"{step}.pt"

    def read(self, step: int) -> None:
        """Read it back."""
        torch.load(self.place(step), weights_only=True)


class TorchSaveSynced(TorchSave):
    """torch.save and one fsync of the file."""

    name, fsyncs = "torch.save and fsync", True

    def save(self, step: int) -> None:
        """Save; see `Contestant`."""
        with self.place(step).open("wb") as file:
            torch.save(self.state(), file)
            file.flush()
            os.fsync(file.fileno())


class DeepSpeedSave(Contestant):
    """engine.save_checkpoint."""

    name = "deepspeed.save_checkpoint"

    def save(self, step: int) -> None:
        """Save; see `Contestant`."""
        self.engine.deepspeed.save_checkpoint(str(self.root), tag=str(step))

    def place(self, step: int) -> Path:
        """Return where it lies."""
        return self.root / str(step)

    def read(self, step: int) -> None:
        """Read it back."""
        for path in self.place(step).rglob("*.pt"):
            torch.load(path, weights_only=False)  # needs pickle; written by this very process


class Distributed(Contestant):
    """torch.distributed.checkpoint.save."""

    name, fsyncs = "torch.distributed.checkpoint", True

    def save(self, step: int) -> None:
        """Save; see `Contestant`."""
        dcp.save(self.state(), checkpoint_id=self.place(step), no_dist=True)

    def place(self, step: int) -> Path:
        """Return where it lies."""
        return self.root / str(step)

    def read(self, step: int) -> None:
        """Read it back."""
        dcp.load(self.state(), checkpoint_id=self.place(step), no_dist=True)


class DistributedAsync(Distributed):
    """torch.distributed.checkpoint.async_save, in its thread."""

    name = "torch.distributed.checkpoint, async"

    def __init__(self, engine: Engine, root: Path) -> None:
        super().__init__(engine, root)
        self.future: Any = None
        self.began = self.took = 0.0
        self.stager: Any = None

    def save(self, step: int) -> None:
        """Save; see `Contestant`."""
        self.began = time.monotonic()
        self.future = dcp.async_save(
            self.state(), checkpoint_id=self.place(step), async_stager=self.stager
        )
        self.future.add_done_callback(lambda _: self._over())

    def _over(self) -> None:
        self.took = time.monotonic() - self.began

    def finish(self) -> float | None:
        """Wait until it is down."""
        self.future.result()
        return self.took


class DistributedAsyncKept(DistributedAsync):
    """The same with memory that is kept from save to save, as ours is."""

    name = "torch.distributed.checkpoint, async, memory kept"

    def __init__(self, engine: Engine, root: Path) -> None:
        super().__init__(engine, root)
        self.stager = DefaultStager(
            StagingOptions(
                use_pinned_memory=False,
                use_shared_memory=False,
                use_async_staging=False,
                use_non_blocking_copy=False,
            )
        )


KINDS: tuple[type[Contestant], ...] = (
    Behind,
    Ours,
    TorchSave,
    TorchSaveSynced,
    DeepSpeedSave,
    Distributed,
    DistributedAsync,
    DistributedAsyncKept,
)
