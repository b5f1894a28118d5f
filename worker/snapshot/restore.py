"""Put a captured state into a fresh engine: first check everything, then change everything."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from durable import faults
from worker.snapshot.capture import (
    COUNTERS,
    DIGESTED,
    INNER,
    MASTER,
    describe,
    hyper_parameters,
    layout_of,
    require_boundary,
    scaler_variables,
)
from worker.snapshot.digest import mapping_digest, tensor_bytes
from worker.snapshot.parts import Parts, parts_of
from worker.snapshot.rng import check_rng, restore_rng
from worker.snapshot.state import FORMAT, RankState, SnapshotMismatch, Tensors

if TYPE_CHECKING:
    from worker.engine import Engine

# What torch's AdamW keeps per slot: all of it, or nothing before a slot's first step.
_INNER_NAMES = frozenset({"step", "exp_avg", "exp_avg_sq"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Restoration:
    """A checked state, ready to be put in place.

    Every rank plans first (not collective); only when all ranks succeeded may they `apply`,
    which is collective for ZeRO 1 to 3.
    """

    apply: Callable[[], None]


def plan_restore(engine: Engine, saved: RankState) -> Restoration:
    """Check that `saved` fits `engine` in every name, type and shape; change nothing.

    Raises `SnapshotMismatch` naming the tensor or field, `NotAtBoundary`, `UnsupportedEngine`.
    """
    require_boundary(engine)
    parts = parts_of(engine)
    _check_state(engine, parts, saved)
    check_rng(saved.rng, saved.state["rng"], engine.device)
    _check_model(engine, saved.model)
    _check_optimizer(parts, saved.optimizer)
    _check_buffers(engine.module, saved.buffers)
    for part in DIGESTED:
        _check_digest(part, getattr(saved, part), saved)
    faults.hit("snapshot.restore_checked")
    return Restoration(apply=lambda: _apply(engine, parts, saved))


def restore(engine: Engine, saved: RankState) -> None:
    """Plan and apply. For tests and single ranks: several ranks agree between the two."""
    plan_restore(engine, saved).apply()


def _apply(engine: Engine, parts: Parts, saved: RankState) -> None:
    faults.hit("snapshot.before_apply")
    for name, parameter in engine.trained_parameters():
        if name in saved.model:
            parameter.data.copy_(saved.model[name])
    for slot, key in parts.slots.items():
        if parts.masters:
            key.data.copy_(saved.optimizer[f"{MASTER}{slot}"])
        _put_inner(parts.inner, key, _inner_of(saved.optimizer, slot))
    faults.hit("snapshot.half_applied")
    _put_plain(engine, parts, saved.state)
    for name, buffer in engine.module.named_buffers():
        if name in saved.buffers:
            buffer.copy_(saved.buffers[name])
    with torch.no_grad():
        parts.refresh()
    _verify_model(engine, saved.model)
    restore_rng(saved.rng, saved.state["rng"], engine.device)  # last: nothing draws after it


def _put_inner(
    inner: torch.optim.Optimizer, key: torch.Tensor, values: Mapping[str, torch.Tensor]
) -> None:
    if not values:
        inner.state.pop(key, None)
        return
    live = inner.state[key]
    for name, value in values.items():
        if name in live:
            live[name].copy_(value)  # in place: DeepSpeed may have linked views of it
        else:
            # AdamW keeps its step count on the CPU unless it is capturable.
            device = value.device if name == "step" else key.device
            live[name] = value.to(device, copy=True)


def _put_plain(engine: Engine, parts: Parts, state: Mapping[str, Any]) -> None:
    for live, group in zip(parts.inner.param_groups, state["param_groups"], strict=True):
        for key, value in group.items():
            live[key] = tuple(value) if isinstance(live[key], tuple) else value
    for name, value in (state["loss_scaler"] or {}).items():
        setattr(parts.scaler, name, value)
    counters = dict(state["counters"])
    # The micro-batch may have been halved since: the window's length is the live engine's.
    counters["micro_steps"] = counters["global_steps"] * engine.accumulation
    for name, value in counters.items():
        setattr(engine.deepspeed, name, value)


def _check_state(engine: Engine, parts: Parts, saved: RankState) -> None:
    state = saved.state
    if state.get("format") != FORMAT:
        raise SnapshotMismatch(
            f"state: format is {state.get('format')!r}, this worker reads {FORMAT}"
        )
    live = layout_of(engine)
    for key, value in live.items():
        if state["layout"].get(key) != value:
            raise SnapshotMismatch(
                f"state: layout.{key} was {state['layout'].get(key)!r} when saved, is {value!r} now"
            )
    counters, window = state["counters"], state["accumulation"]
    if set(counters) != set(COUNTERS) or any(
        type(value) is not int or value < 0 for value in counters.values()
    ):
        raise SnapshotMismatch(f"state: counters are {counters}, needs {', '.join(COUNTERS)}")
    if counters["micro_steps"] != counters["global_steps"] * window:
        raise SnapshotMismatch(f"state: counters {counters} are not at a boundary of {window}")
    _same_keys("param_groups", hyper_parameters(parts.inner), state["param_groups"])
    scaler = scaler_variables(parts.scaler)
    if (scaler is None) != (state["loss_scaler"] is None) or (
        scaler is not None and set(scaler) != set(state["loss_scaler"])
    ):
        raise SnapshotMismatch("state: loss_scaler has other variables than the live engine's")


def _same_keys(what: str, live: list[dict[str, Any]], saved: list[dict[str, Any]]) -> None:
    if len(live) != len(saved):
        raise SnapshotMismatch(f"state: {len(saved)} {what} were saved, the engine has {len(live)}")
    for index, (mine, theirs) in enumerate(zip(live, saved, strict=True)):
        if set(mine) != set(theirs):
            odd = sorted(set(mine) ^ set(theirs))
            raise SnapshotMismatch(f"state: {what}[{index}] differs in {', '.join(odd)}")


def _check_digest(part: str, tensors: Tensors, saved: RankState) -> None:
    """Compare with what this rank held when it saved; catches ranks that had drifted apart."""
    if mapping_digest(tensors) != saved.state["digests"][part]:
        raise SnapshotMismatch(
            f"{part}: the tensors are not those that rank {saved.state['layout']['rank']} held"
            " when it saved"
        )


def _check_model(engine: Engine, model: Tensors) -> None:
    if engine.zero_stage == 3:
        live: dict[str, torch.Tensor] = {}
    else:
        live = {name: p.detach() for name, p in engine.trained_parameters()}
    _same_tensors("model", describe(live), describe(model))


def _check_optimizer(parts: Parts, optimizer: Tensors) -> None:
    expected: dict[str, Any] = {}
    for slot, key in parts.slots.items():
        shape = ["float32", list(key.shape)]
        if parts.masters:
            expected[f"{MASTER}{slot}"] = shape
        names = set(_inner_of(optimizer, slot))
        if names:
            for name in _INNER_NAMES | names:
                expected[f"{INNER}{slot}/{name}"] = ["float32", []] if name == "step" else shape
        unknown = sorted(names - _INNER_NAMES)
        if unknown:
            raise SnapshotMismatch(f"optimizer: {INNER}{slot}/{unknown[0]} is no state of AdamW")
    _same_tensors("optimizer", expected, describe(optimizer))


def _check_buffers(module: torch.nn.Module, saved: Tensors) -> None:
    live = {name: tensor for name, tensor in module.named_buffers() if name in saved}
    _same_tensors("buffers", describe(live), describe(saved))


def _same_tensors(part: str, live: Mapping[str, Any], saved: Mapping[str, Any]) -> None:
    for name in sorted(set(live) | set(saved)):
        if name not in saved:
            raise SnapshotMismatch(f"{part}: {name} is missing in the snapshot")
        if name not in live:
            raise SnapshotMismatch(f"{part}: {name} is not part of this engine")
        if live[name] != saved[name]:
            raise SnapshotMismatch(
                f"{part}: {name} was saved as {saved[name][0]} {saved[name][1]},"
                f" the engine has {live[name][0]} {live[name][1]}"
            )


def _inner_of(optimizer: Mapping[str, torch.Tensor], slot: str) -> Tensors:
    prefix = f"{INNER}{slot}/"
    return {n.removeprefix(prefix): t for n, t in optimizer.items() if n.startswith(prefix)}


def _verify_model(engine: Engine, model: Tensors) -> None:
    """After the refresh the module must hold what it held when saved, bit for bit."""
    for name, parameter in engine.trained_parameters():
        if name in model and tensor_bytes(parameter) != tensor_bytes(model[name]):
            raise SnapshotMismatch(f"model: {name} differs from its master after the restore")
