"""DeepSpeed's `latest` while one rank is slow to write: deepspeed_race.py DIRECTORY."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

SLOW_SECONDS = 30.0


def _engine() -> object:
    import deepspeed

    torch.manual_seed(1)
    model = torch.nn.Linear(64, 64)
    config = {
        "train_batch_size": 2,
        "train_micro_batch_size_per_gpu": 1,
        "zero_optimization": {"stage": 2},
        "optimizer": {"type": "AdamW", "params": {"lr": 1e-3, "torch_adam": True}},
    }
    engine, *_ = deepspeed.initialize(
        model=model, model_parameters=model.parameters(), config=config, dist_init_required=False
    )
    return engine


def _join(rank: int, port: int) -> None:
    os.environ.update(
        MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK=str(rank), LOCAL_RANK=str(rank),
        WORLD_SIZE="2", DS_ACCELERATOR="cpu",
    )  # fmt: skip
    dist.init_process_group("gloo")
    import deepspeed

    deepspeed.ops.__compatible_ops__ = {}
    deepspeed.init_distributed(dist_backend="gloo", auto_mpi_discovery=False, verbose=False)


def _save(rank: int, root: str, port: int) -> None:
    _join(rank, port)
    engine = _engine()
    loss = engine(torch.ones(1, 64)).sum()  # type: ignore[operator]
    engine.backward(loss)  # type: ignore[attr-defined]
    engine.step()  # type: ignore[attr-defined]
    engine.save_checkpoint(root, tag="good")  # type: ignore[attr-defined]
    if rank == 1:
        writer = engine.checkpoint_engine  # type: ignore[attr-defined]
        plain = writer.save

        def slow(state: object, path: str, *rest: object, **more: object) -> object:
            Path(root, "slow").touch()
            time.sleep(SLOW_SECONDS)
            return plain(state, path, *rest, **more)

        writer.save = slow
    Path(root, f"pid{rank}").write_text(str(os.getpid()))
    engine.save_checkpoint(root, tag="bad")  # type: ignore[attr-defined]


def _load(rank: int, root: str, port: int) -> None:
    _join(rank, port)
    engine = _engine()
    try:
        engine.load_checkpoint(root)  # type: ignore[attr-defined]
        said = "loaded"
    except BaseException as error:
        said = type(error).__name__
    Path(root, f"load{rank}").write_text(said)
    os._exit(0)


def main(root: Path) -> None:
    """Kill the slow rank while it writes; load what is called the latest."""
    port = 20_000 + os.getpid() % 20_000
    context = mp.start_processes(
        _save, args=(str(root), port), nprocs=2, join=False, start_method="spawn"
    )
    deadline = time.monotonic() + 240
    latest = root / "latest"
    while not ((root / "slow").exists() and latest.exists() and latest.read_text() == "bad"):
        if time.monotonic() > deadline or not all(p.is_alive() for p in context.processes):
            named = latest.read_text() if latest.exists() else "nothing"
            break
        time.sleep(0.05)
    else:
        named = "the unfinished one"
    for process in context.processes:
        if process.is_alive():
            os.kill(process.pid, signal.SIGKILL)
    there = (
        sorted(p.name for p in (root / "bad").glob("*optim*")) if (root / "bad").exists() else []
    )
    loaded = mp.start_processes(
        _load, args=(str(root), port + 1), nprocs=2, join=False, start_method="spawn"
    )
    for process in loaded.processes:
        process.join(120)
        if process.is_alive():
            process.kill()
    said = [
        (root / f"load{r}").read_text() if (root / f"load{r}").exists() else "hung" for r in (0, 1)
    ]
    print(
        f"DeepSpeed, rank 1 killed while writing: latest names {named}, {len(there)} of 2 shards"
        f" are there; at the next start rank 0: {said[0]}, rank 1: {said[1]}"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
