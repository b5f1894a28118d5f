"""Checks that run inside a rank, after the last step of a `training` plan.

Each returns JSON for the report; the tests in this folder say what it must be.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from tests.e2e.snapshot.training import batch_of
from worker import snapshot
from worker.engine import Engine
from worker.schedule import lr_at
from worker.snapshot import RankState, SnapshotError
from worker.snapshot.digest import mapping_digest


def _two_steps(engine: Engine, rank: int) -> list[str]:
    losses: list[str] = []
    for step in range(2):
        engine.set_lr(1e-3)
        losses += [
            engine.micro_step(batch_of(50 + step, micro_step, rank)).item().hex()
            for micro_step in range(engine.accumulation)
        ]
    return [*losses, snapshot.weights_digest(engine)]


def _saved(engine: Engine, directory: Path, rank: int) -> RankState:
    """Capture, through files, so that every rank has what rank 0 stores for all."""
    target = directory / "live" / f"rank-{rank:05d}"
    target.mkdir(parents=True)
    for name, data in snapshot.encode(snapshot.capture(engine)).items():
        (target / name).write_bytes(data)
    torch.distributed.barrier()
    return _decoded(engine, directory / "live", rank)


def _decoded(engine: Engine, directory: Path, rank: int) -> RankState:
    paths = snapshot.files_needed(rank, engine.world_size, engine.zero_stage)
    return snapshot.decode(
        {path: (directory / path).read_bytes() for path in paths},
        rank=rank,
        world_size=engine.world_size,
        zero_stage=engine.zero_stage,
    )


def live_restore(engine: Engine, semantic: Any, directory: Path, rank: int) -> Any:
    """Train on, go back in the same process, train the same again."""
    saved = _saved(engine, directory, rank)
    first = _two_steps(engine, rank)
    snapshot.restore(engine, saved)
    return {"first": first, "again": _two_steps(engine, rank)}


def borrowed_weights(engine: Engine, semantic: Any, directory: Path, rank: int) -> Any:
    """Evaluate with other weights, then train on as if nothing had been."""
    own, saved = snapshot.weights_digest(engine), _saved(engine, directory, rank)
    undisturbed = _two_steps(engine, rank)
    snapshot.restore(engine, saved)
    trained = snapshot.full_trained(engine)
    other = {name: tensor + 1 for name, tensor in trained.items()}
    batch = batch_of(90, 0, 0)
    with engine.evaluating() as module:
        before = module(**batch).loss.item()
    refused = ""
    with snapshot.evaluation_weights(engine, other) as lent, engine.evaluating() as module:
        during = module(**batch).loss.item()
        try:
            snapshot.capture(engine)
        except SnapshotError as error:
            refused = type(error).__name__
    with engine.evaluating() as module:
        after = module(**batch).loss.item()
    back = snapshot.weights_digest(engine)
    snapshot.restore(engine, saved)  # the generators: the batches above drew from them
    return {
        "full_is_digest": mapping_digest(trained) == own,
        "lent_is_other": lent == mapping_digest(other),
        "losses": [before, during, after],
        "refused": refused,
        "back": back == own,
        "undisturbed": undisturbed,
        "continued": _two_steps(engine, rank),
    }


def load_refusals(engine: Engine, semantic: Any, directory: Path, rank: int) -> Any:
    """Offer wrong sets of trained tensors."""
    trained = snapshot.full_trained(engine)
    name = min(trained)
    wrong = {
        "missing": {n: t for n, t in trained.items() if n != name},
        "unknown": trained | {"ghost": trained[name]},
        "shape": trained | {name: trained[name][:-1]},
        "type": trained | {name: trained[name].double()},
    }
    found = {}
    for what, tensors in wrong.items():
        try:
            snapshot.load_trained(engine, tensors)
            found[what] = "accepted"
        except SnapshotError as error:
            found[what] = str(error)
    return {"found": found, "name": name, "borrowed": engine.weights_borrowed}


def mid_window(engine: Engine, semantic: Any, directory: Path, rank: int) -> Any:
    """Ask for a capture and for an evaluation between two micro-steps."""
    engine.micro_step(batch_of(70, 0, rank))
    refused = []
    for attempt in (lambda: snapshot.capture(engine), lambda: engine.evaluating().__enter__()):
        try:
            attempt()
        except (SnapshotError, RuntimeError) as error:
            refused.append(str(error))
    engine.micro_step(batch_of(70, 1, rank))
    return {"refused": refused, "boundary": engine.step_boundary, "steps": engine.steps_done}


def counters(engine: Engine, semantic: Any, directory: Path, rank: int) -> Any:
    """Tell where the engine believes it is."""
    names = ("global_steps", "global_samples", "micro_steps", "skipped_steps")
    return {name: getattr(engine.deepspeed, name) for name in names} | {
        "boundary": engine.step_boundary,
        "lr": [group["lr"] for group in engine.deepspeed.optimizer.param_groups],
        "expected_lr": lr_at(semantic.train, engine.steps_done - 1),
        "gradient_norm": engine.gradient_norm,
    }


def contents(engine: Engine, semantic: Any, directory: Path, rank: int) -> Any:
    """List what a rank stores, file by file."""
    files = snapshot.encode(snapshot.capture(engine))
    again = snapshot.encode(snapshot.capture(engine))
    return {
        "tensors": {
            name: sorted(snapshot.decode_tensors(data, name))
            for name, data in files.items()
            if name.endswith(".safetensors")
        },
        "names": sorted(files),
        "same_bytes": files == again,
        "frozen": sorted(n for n, p in engine.module.named_parameters() if not p.requires_grad),
        "trained": [name for name, _ in engine.trained_parameters()],
    }


def save_again(engine: Engine, semantic: Any, directory: Path, rank: int) -> Any:
    """Leave the present state as a checkpoint."""
    folder = directory / "checkpoint" / f"rank-{rank:05d}"
    folder.mkdir(parents=True)
    for name, data in snapshot.encode(snapshot.capture(engine)).items():
        (folder / name).write_bytes(data)


def save_trained(engine: Engine, semantic: Any, directory: Path, rank: int) -> Any:
    """Leave the full trained tensors beside the report."""
    data = snapshot.encode_tensors(snapshot.full_trained(engine))
    (directory / f"trained.{rank}.safetensors").write_bytes(data)
    return len(data)


def footprint(engine: Engine, semantic: Any, directory: Path, rank: int) -> Any:
    """Tell whether anything that compiles was brought in."""
    return sorted(name for name in sys.modules if name.startswith("torch._inductor.compile"))


def unsupported(engine: Engine, semantic: Any, directory: Path, rank: int) -> Any:
    """Capture an engine whose optimizer nobody has taken apart yet."""
    wrapped = engine.deepspeed.optimizer
    engine.deepspeed.optimizer = torch.optim.SGD([p for _, p in engine.trained_parameters()])
    try:
        snapshot.capture(engine)
    except SnapshotError as error:
        return [type(error).__name__, str(error)]
    finally:
        engine.deepspeed.optimizer = wrapped
    return ["accepted", ""]


def mutations(engine: Engine, semantic: Any, directory: Path, rank: int) -> Any:
    """Change every entry of a saved state in turn; each must be refused with nothing changed."""
    saved = _saved(engine, directory, rank)
    untouched = _everything(engine)
    accepted, unnamed, changed, count = [], [], [], 0
    for name, wrong in _mutated(saved):
        count += 1
        try:
            snapshot.plan_restore(engine, wrong)
            accepted.append(name)
        except SnapshotError as error:
            if name.split(":")[-1] not in str(error):
                unnamed.append(f"{name}: {error}")
        if _everything(engine) != untouched:
            changed.append(name)
    snapshot.restore(engine, saved)
    return {"count": count, "accepted": accepted, "unnamed": unnamed, "changed": changed}


def _everything(engine: Engine) -> list[Any]:
    state = snapshot.capture(engine)
    digests = [mapping_digest(part) for part in (state.model, state.optimizer, state.rng)]
    return [*digests, state.state]


def _mutated(saved: RankState) -> Iterator[tuple[str, RankState]]:
    for part in ("model", "optimizer", "rng"):
        tensors = getattr(saved, part)
        for name in tensors:
            for how, wrong in _wrong_tensors(tensors, name):
                label = f"{part} {how}" if ":" in how else f"{part} {how}:{name}"
                yield label, replace(saved, **{part: wrong})
        yield f"{part} unknown:{part}", replace(saved, **{part: tensors | {"ghost": torch.ones(1)}})
    yield "buffers unknown:ghost", replace(saved, buffers={"ghost": torch.ones(1)})
    for path, value in _WRONG_FIELDS:
        yield f"state:{path.split('.')[-1]}", replace(saved, state=_with(saved.state, path, value))


def _wrong_tensors(
    tensors: dict[str, torch.Tensor], name: str
) -> Iterator[tuple[str, dict[str, torch.Tensor]]]:
    tensor = tensors[name]
    rest = {n: t for n, t in tensors.items() if n != name}
    changes: dict[str, Callable[[], torch.Tensor]] = {
        "type": tensor.double,
        "shape": lambda: torch.cat([tensor.reshape(-1), tensor.reshape(-1)]),
    }
    yield "missing", rest
    yield f"content of {name}:tensors are not those", rest | {name: _flipped(tensor)}
    for how, change in changes.items():
        yield how, rest | {name: change()}


def _flipped(tensor: torch.Tensor) -> torch.Tensor:
    changed = tensor.clone().reshape(-1)
    changed.view(torch.uint8)[0] ^= 1
    return changed.reshape(tensor.shape)


_WRONG_FIELDS: tuple[tuple[str, Any], ...] = (
    ("format", 2),
    ("layout.zero_stage", 9),
    ("layout.world_size", 7),
    ("layout.rank", 5),
    ("layout.precision", "fp8"),
    ("layout.optimizer", "Lion"),
    ("counters.micro_steps", 1),
    ("counters", {}),
    ("param_groups", []),
    ("param_groups", [{"lr": 0.0}]),
    ("loss_scaler", {"other": 1}),
    ("rng.device", "cuda"),
    ("rng.python", {}),
    ("rng.numpy", {"kind": "PCG64"}),
)


def _with(state: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    head, _, rest = path.partition(".")
    return state | {head: _with(state[head], rest, value) if rest else value}


def drifted_replicas(engine: Engine, semantic: Any, directory: Path, rank: int) -> Any:
    """Let rank 1 hold other weights than rank 0 when saving: rank 0's file is not its state."""
    if rank == 1:
        with torch.no_grad():
            engine.trained_parameters()[0][1].add_(1)
    decoded = _saved(engine, directory, rank)
    try:
        snapshot.plan_restore(engine, decoded)
    except SnapshotError as error:
        return str(error)
    return "accepted"
