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
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist

from checkpoints.errors import BrokenCheckpoint
from jobs.spec import Semantic
from scripts.bench.savers import KINDS, Behind, Contestant, Ours
from worker.engine import Engine, build_engine

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
