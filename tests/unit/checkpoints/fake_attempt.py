"""An attempt without torch: ranks whose state is a pure function of (step, rank)."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

from checkpoints.manifest import Environment, FileEntry, ManifestHeader, Parent, Position
from checkpoints.store import CheckpointStore, CommittedCheckpoint, OpenCheckpoint
from jobs.spec import canonical_json

JOB = "0123456789abcdef"
SPEC_DIGEST = "5" * 64
RANKS = 2


def open_store(root: Path) -> CheckpointStore:
    """Return the store of the one job of these tests."""
    return CheckpointStore(root, job=JOB, spec_digest=SPEC_DIGEST)


def shard(*, step: int, rank: int) -> dict[str, bytes]:
    """Return the files that a rank saves at a step; every kind that a worker has."""
    source = random.Random(f"{step} {rank}")
    header = b'{"__metadata__":{}}     '
    return {
        "model.safetensors": len(header).to_bytes(8, "little") + header + source.randbytes(5_000),
        "optimizer.safetensors": len(header).to_bytes(8, "little")
        + header
        + source.randbytes(13_000),
        "rng.json": canonical_json([source.randrange(1 << 31) for _ in range(100)]),
        "state.json": canonical_json({"step": step, "rank": rank}),
    }


def header(
    *, step: int, epoch: int, ranks: int = RANKS, parent: Parent | None = None
) -> ManifestHeader:
    """Return what the worker would say about this checkpoint."""
    return ManifestHeader(
        step=step,
        epoch=epoch,
        kind="periodic",
        parent=parent,
        world_size=ranks,
        engine={"zero_stage": 2, "precision": "fp32"},
        position=Position(samples=step * 8, order_digest="sha256:" + "0" * 64),
        states=("model", "optimizer", "scheduler", "rng", "position"),
        environment=Environment(versions={"torch": "2.13"}, device_model="cpu", threads=1),
        extra={"best": {"loss": 0.25}},
    )


def stage_rank(
    store: CheckpointStore, *, step: int, epoch: int, rank: int, try_number: int | None = None
) -> list[FileEntry]:
    """Stage one rank's shard."""
    writer = store.stage(step=step, epoch=epoch, rank=rank, try_number=try_number)
    for name, data in shard(step=step, rank=rank).items():
        writer.write(name, data)
    return writer.finish()


def stage(store: CheckpointStore, *, step: int, epoch: int, ranks: int = RANKS) -> list[FileEntry]:
    """Stage every rank's shard."""
    return [
        entry
        for rank in range(ranks)
        for entry in stage_rank(store, step=step, epoch=epoch, rank=rank)
    ]


def no_fence() -> None:
    """No higher epoch exists."""


def save(
    store: CheckpointStore,
    *,
    step: int,
    epoch: int = 1,
    ranks: int = RANKS,
    fence: Callable[[], None] = no_fence,
) -> CommittedCheckpoint:
    """Stage and commit one checkpoint."""
    entries = stage(store, step=step, epoch=epoch, ranks=ranks)
    return store.commit(header(step=step, epoch=epoch, ranks=ranks), entries, fence=fence)


def assert_loads(checkpoint: OpenCheckpoint) -> None:
    """Assert that every byte is what the ranks saved at that step."""
    manifest = checkpoint.manifest
    for rank in range(manifest.world_size):
        assert checkpoint.read_rank(rank) == shard(step=manifest.step, rank=rank)
