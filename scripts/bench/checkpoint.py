"""Saves of one DeepSpeed engine (one rank, fp32, AdamW), by us and by peers, in turns.

Each has its turn in each round: the same steps without a save, and with one at their beginning,
waited for at their end. *blocked*: the training stands still until `save` returns;
*cost*: how much longer the steps took than without; *down*: from its start until the save is
complete, with steps beside it. *read*: ours compares every byte with the manifest (`verify`), the
peers load. *flip*: whether one flipped bit in the biggest file is noticed by that.
Which of them are power-cut safe is theirs to say: only ours and those named so call fsync.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from abc import ABC, abstractmethod
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions

from checkpoints.errors import BrokenCheckpoint
from checkpoints.manifest import ManifestHeader, Position
from checkpoints.store import CheckpointStore
from jobs.contract.paths import JobDir
from jobs.spec import Run, Semantic
from worker.background import BackgroundSaves
from worker.channel import Channel
from worker.committer import Committer, PendingSave
from worker.engine import Engine, build_engine
from worker.metrics import Curve
from worker.snapshot import HostMemory, copy_state
from worker.store_client import BoundedStore

WIDTH = 1024
STATE_BYTES = 12  # of an element: weights and two moments in fp32
BATCH = 64


class Stack(torch.nn.Module):  # type: ignore[misc]
    """Linear layers, enough of them to weigh something."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList(torch.nn.Linear(WIDTH, WIDTH) for _ in range(layers))

    def forward(self, inputs: torch.Tensor) -> Any:
        """Return something with a loss."""
        for layer in self.layers:
            inputs = torch.tanh(layer(inputs))
        return SimpleNamespace(loss=inputs.square().mean())


def make_engine(layers: int) -> Engine:
    """Return an engine that has done one step, so that AdamW's moments are there."""
    semantic = Semantic.model_validate(
        {
            "model": {"family": "decoder", "config": {}},
            "method": {"name": "full"},
            "task": {"name": "tsv", "path": "package:quickstart"},
            "train": {"steps": 1, "global_batch": BATCH},
            "engine": {"ranks": 1, "zero_stage": 0, "precision": "fp32"},
            "seed": 1,
        }
    )
    torch.manual_seed(1)
    engine = build_engine(Stack(layers), semantic)
    engine.set_lr(1e-4)
    train(engine, 1)
    return engine


def train(engine: Engine, steps: int) -> None:
    """Do whole steps."""
    for _ in range(steps * engine.accumulation):
        engine.micro_step({"inputs": torch.ones(engine.geometry.micro_batch, WIDTH)})


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
            torch.load(path, weights_only=False)  # its own files need pickle


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


@dataclass(kw_only=True)
class Figures:
    """Of one contestant, a value for each round."""

    blocked: list[float] = field(default_factory=list)
    cost: list[float] = field(default_factory=list)
    down: list[float] = field(default_factory=list)
    read: list[float] = field(default_factory=list)
    size: int = 0
    flip: str = ""


def size_of(place: Path) -> int:
    """Return the bytes of a file, or of all files below a directory."""
    files = [place] if place.is_file() else [p for p in place.rglob("*") if p.is_file()]
    return sum(path.stat().st_size for path in files)


def flip_a_bit(place: Path) -> None:
    """Flip a bit in the middle of the biggest file."""
    files = [place] if place.is_file() else [p for p in place.rglob("*") if p.is_file()]
    biggest = max(files, key=lambda path: path.stat().st_size)
    with biggest.open("r+b") as file:
        file.seek(biggest.stat().st_size // 2)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))


def measure(contestant: Contestant, figures: Figures, *, step: int, steps: int) -> float:
    """Train with one save; return the seconds that it all took."""
    began = time.monotonic()
    contestant.save(step)
    blocked = time.monotonic() - began
    train(contestant.engine, steps)
    down = contestant.finish()
    whole = time.monotonic() - began
    figures.blocked.append(blocked)
    figures.down.append(blocked if down is None else down)
    figures.size = size_of(contestant.place(step))
    began = time.monotonic()
    contestant.read(step)
    figures.read.append(time.monotonic() - began)
    return whole


def notices_a_flip(contestant: Contestant, step: int) -> str:
    """Return whether reading complains about one wrong bit."""
    flip_a_bit(contestant.place(step))
    try:
        contestant.read(step)
    except (BrokenCheckpoint, RuntimeError, ValueError, OSError, EOFError):
        return "found"
    return "not found"


def compete(engine: Engine, root: Path, *, rounds: int, steps: int) -> dict[str, Figures]:
    """Let all take turns; the first round warms up and does not count."""
    contestants = [kind(engine, root / str(n)) for n, kind in enumerate(KINDS)]
    figures: dict[str, Figures] = defaultdict(Figures)
    for number in range(rounds + 1):
        if number == 1:
            figures.clear()
        for contestant in contestants:
            os.sync()  # nobody pays for what another left in the page cache
            began = time.monotonic()
            train(engine, steps)
            plain = time.monotonic() - began
            mine = figures[contestant.name]
            whole = measure(contestant, mine, step=number + 1, steps=steps)
            mine.cost.append(whole - plain)
            if number < rounds and not isinstance(contestant, Ours):
                place = contestant.place(number + 1)
                shutil.rmtree(place) if place.is_dir() else place.unlink()
    for contestant in contestants:
        figures[contestant.name].flip = notices_a_flip(contestant, rounds + 1)
    return dict(figures)


def show(figures: dict[str, Figures], *, plain_steps: int) -> None:
    """Print the table and the ratios."""
    middle = statistics.median
    print(f"medians; a save at the beginning of {plain_steps} steps")
    print(
        "| | blocked s | cost s | down s | MB/s | MB written | fsync | read s | read MB/s | flip |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for kind in KINDS:
        one = figures[kind.name]
        size = one.size / 1e6
        print(
            f"| {kind.name} | {middle(one.blocked):.3f} | {middle(one.cost):.2f}"
            f" | {middle(one.down):.2f} | {size / middle(one.down):.0f} | {size:.0f}"
            f" | {'yes' if kind.fsyncs else 'no'} | {middle(one.read):.2f}"
            f" | {size / middle(one.read):.0f} | {one.flip} |"
        )
    ours = figures[Behind.name]
    for kind in KINDS[2:]:
        one = figures[kind.name]
        print(
            f"{kind.name} / ours behind the training:"
            f" blocked {middle(one.blocked) / middle(ours.blocked):.1f}×,"
            f" down {middle(one.down) / middle(ours.down):.2f}×,"
            f" bytes {one.size / ours.size:.2f}×, read {middle(one.read) / middle(ours.read):.2f}×"
        )


def main() -> None:
    """Set everything up in a directory that goes away."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=150, help="of state: weights and moments")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20, help="trained beside each save")
    parser.add_argument("--directory", type=Path, help="file system to write to")
    options = parser.parse_args()
    torch.set_num_threads(1)
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    layers = max(1, round(options.mib * 2**20 / STATE_BYTES / (WIDTH * (WIDTH + 1))))
    with tempfile.TemporaryDirectory(prefix="orch-bench-", dir=options.directory) as folder:
        root = Path(folder)
        dist.init_process_group(
            "gloo", store=dist.FileStore(str(root / "store"), 1), rank=0, world_size=1
        )
        engine = make_engine(layers)
        print(f"{layers} layers, torch {torch.__version__}, load {os.getloadavg()[0]:.1f}")
        figures = compete(engine, root, rounds=options.rounds, steps=options.steps)
        show(figures, plain_steps=options.steps)
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
