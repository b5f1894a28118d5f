"""Take a rank's training state out of a live engine, as copies on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from durable import faults
from worker.snapshot.buffers import changed_buffers
from worker.snapshot.digest import mapping_digest
from worker.snapshot.host_memory import HostMemory
from worker.snapshot.parts import Parts, parts_of
from worker.snapshot.pieces import as_json
from worker.snapshot.rng import capture_rng
from worker.snapshot.state import FORMAT, NotAtBoundary, RankState, Tensors

if TYPE_CHECKING:
    from worker.engine import Engine

COUNTERS = ("global_steps", "global_samples", "micro_steps", "skipped_steps")
DIGESTED = ("model", "optimizer", "rng", "buffers")
MASTER, INNER = "master/", "inner/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Copies:
    """What is copied while the training waits; `state` does the rest, at any later time."""

    rank: int
    held: Mapping[str, Tensors]  # by the parts of DIGESTED; of buffers all, changed or not
    replicated: bool  # every rank holds the same optimizer state
    initial_buffers: Mapping[str, str]
    plain: Mapping[str, Any]  # the fields of state.json that need no tensors

    @property
    def nbytes(self) -> int:
        """How much is held; rank 0 of ranks that hold the same writes as much."""
        return sum(t.nbytes for tensors in self.held.values() for t in tensors.values())

    def state(self) -> RankState:
        """Return the rank's state: digests are taken here, and what others hold is left out."""
        model, optimizer, rng, buffers = (self.held[part] for part in DIGESTED)
        buffers = changed_buffers(buffers, self.initial_buffers)
        held = dict(zip(DIGESTED, (model, optimizer, rng, buffers), strict=True))
        state: dict[str, Any] = {
            **self.plain,
            # Of what this rank holds, also where rank 0's file will speak for it.
            "digests": {part: mapping_digest(value) for part, value in held.items()},
        }
        if self.rank != 0:  # rank 0's file serves all where ranks hold the same
            model = {}
            optimizer = {} if self.replicated else optimizer
        state["tensors"] = {
            "model": describe(model),
            "optimizer": describe(optimizer),
            "rng": describe(rng),
            "buffers": describe(buffers),
        }
        return RankState(model=model, optimizer=optimizer, rng=rng, buffers=buffers, state=state)


def capture(engine: Engine) -> RankState:
    """Return this rank's state. Not collective: a rank never waits for another here.

    Raises `NotAtBoundary` inside an accumulation window or while other weights are borrowed,
    and `UnsupportedEngine`.
    """
    return copy_state(engine, HostMemory(keep=False)).state()


def copy_state(engine: Engine, memory: HostMemory) -> Copies:
    """Copy this rank's state into host memory; what training does next does not reach it.

    Copies that `memory` gave out before are lost. Raises like `capture`.
    """
    require_boundary(engine)
    parts = parts_of(engine)
    rng, random_values = capture_rng(engine.device)  # first: nothing may draw before it
    buffers = engine.module.named_buffers()
    copies = Copies(
        rank=engine.rank,
        held={
            "model": _model(engine, memory),
            "optimizer": optimizer_tensors(parts, memory),
            "rng": rng,
            "buffers": {name: memory.copy(f"buffers/{name}", t) for name, t in buffers},
        },
        replicated=parts.replicated,
        initial_buffers=engine.initial_buffers,
        plain={
            "format": FORMAT,
            "layout": layout_of(engine),
            "counters": {name: int(getattr(engine.deepspeed, name)) for name in COUNTERS},
            "accumulation": engine.accumulation,
            "param_groups": hyper_parameters(parts.inner),
            "loss_scaler": scaler_variables(parts.scaler),
            "pieces": as_json(parts.pieces),
            "rng": random_values,
        },
    )
    memory.finish()
    faults.hit("snapshot.captured")
    return copies


def require_boundary(engine: Engine) -> None:
    """Raise `NotAtBoundary` unless the engine is between two steps with its own weights."""
    if engine.weights_borrowed:
        raise NotAtBoundary("the module holds borrowed weights: leave `evaluation_weights` first")
    if not engine.step_boundary:
        raise NotAtBoundary(
            f"micro-step {engine.deepspeed.micro_steps} lies inside an accumulation window of"
            f" {engine.accumulation}: finish the step first"
        )


def layout_of(engine: Engine) -> dict[str, Any]:
    """Return what must be equal between the saving and the restoring engine."""
    return {
        "optimizer": type(engine.deepspeed.optimizer).__name__,
        "zero_stage": engine.zero_stage,
        "precision": engine.precision,
        "rank": engine.rank,
        "world_size": engine.world_size,
    }


def optimizer_tensors(parts: Parts, memory: HostMemory) -> Tensors:
    """Return copies of masters and inner state: `master/SLOT`, `inner/SLOT/NAME`."""
    tensors: Tensors = {}
    for slot, key in parts.slots.items():
        if parts.masters:
            tensors[f"{MASTER}{slot}"] = memory.copy(f"optimizer/{MASTER}{slot}", key)
        for name, value in parts.inner.state.get(key, {}).items():
            path = f"{INNER}{slot}/{name}"
            tensors[path] = memory.copy(f"optimizer/{path}", value)
    return tensors


def hyper_parameters(inner: torch.optim.Optimizer) -> list[dict[str, Any]]:
    """Return the param_groups without their parameters, tuples as lists (JSON)."""
    return [
        {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in group.items()
            if key != "params"
        }
        for group in inner.param_groups
    ]


def scaler_variables(scaler: Any | None) -> dict[str, Any] | None:
    """Return the loss scaler's plain variables, or None where there is no scaler."""
    if scaler is None:
        return None
    return {
        name: value
        for name, value in sorted(vars(scaler).items())
        if value is None or isinstance(value, bool | int | float)
    }


def describe(tensors: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """Return `{name: [type, shape]}`: the table of contents that a reader checks against."""
    return {
        name: [str(tensor.dtype).removeprefix("torch."), list(tensor.shape)]
        for name, tensor in sorted(tensors.items())
    }


def _model(engine: Engine, memory: HostMemory) -> Tensors:
    if engine.zero_stage == 3:  # the masters hold everything; a gather would wait for peers
        return {}
    return {name: memory.copy(f"model/{name}", p) for name, p in engine.trained_parameters()}
