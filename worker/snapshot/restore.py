"""Put a captured state into a fresh engine: first check everything, then change everything."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from itertools import zip_longest
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
from worker.snapshot.pieces import as_json, from_json
from worker.snapshot.rng import check_rng, restore_rng
from worker.snapshot.state import (
    FORMAT,
    RankState,
    SnapshotBroken,
    SnapshotMismatch,
    Tensors,
)

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
    waived: tuple[tuple[str, str], ...] = ()  # entry and words of what did not fit and was let pass


# What may be left out of a restore where it was waived by name (`jobs.waivers`).
WAIVABLE = frozenset({"rng", "scheduler", "scaler"})


def plan_restore(
    engine: Engine,
    saved: RankState,
    *,
    waived: Collection[str] = (),
    draw_anew: Callable[[], None] = lambda: None,
) -> Restoration:
    """Check that `saved` fits `engine` in every name, type and shape; change nothing.

    `waived`: entries that may differ; the engine's own then stay, and `draw_anew` gives the
    generators a state. Raises `SnapshotMismatch` naming every tensor or field that does not fit,
    `SnapshotBroken` for what contradicts itself, `NotAtBoundary`, `UnsupportedEngine`.
    """
    require_boundary(engine)
    parts = parts_of(engine)
    _check_counters(saved.state)
    refused: list[SnapshotMismatch] = []
    passed: list[SnapshotMismatch] = []
    for entry, check in _checks(engine, parts, saved):
        try:
            check()
        except SnapshotMismatch as error:
            mismatch = SnapshotMismatch(str(error), entry=entry)
            (passed if entry in WAIVABLE and entry in waived else refused).append(mismatch)
    if refused:
        raise SnapshotMismatch.of(refused)
    left_out = {entry: words for one in passed for entry, words in one.entries}
    for part in DIGESTED:
        if part not in left_out:
            _check_digest(part, getattr(saved, part), saved)
    faults.hit("snapshot.restore_checked")
    return Restoration(
        apply=lambda: _apply(engine, parts, saved, left_out, draw_anew),
        waived=tuple(left_out.items()),
    )


def _checks(engine: Engine, parts: Parts, saved: RankState) -> list[tuple[str, Callable[[], None]]]:
    state = saved.state
    return [
        ("engine", lambda: _check_layout(engine, state)),
        ("engine", lambda: _check_pieces(parts, state)),
        ("scheduler", lambda: _check_settings(parts, state)),
        ("scaler", lambda: _check_scaler(parts, state)),
        ("rng", lambda: check_rng(saved.rng, state["rng"], engine.device)),
        ("model", lambda: _check_model(engine, saved.model)),
        ("optimizer", lambda: _check_optimizer(parts, saved.optimizer)),
        ("buffers", lambda: _check_buffers(engine.module, saved.buffers)),
    ]


def restore(engine: Engine, saved: RankState) -> None:
    """Plan and apply. For tests and single ranks: several ranks agree between the two."""
    plan_restore(engine, saved).apply()


def _apply(
    engine: Engine,
    parts: Parts,
    saved: RankState,
    left_out: Collection[str],
    draw_anew: Callable[[], None],
) -> None:
    faults.hit("snapshot.before_apply")
    for name, parameter in engine.trained_parameters():
        if name in saved.model:
            parameter.data.copy_(saved.model[name])
    for slot, key in parts.slots.items():
        if parts.masters:
            key.data.copy_(saved.optimizer[f"{MASTER}{slot}"])
        _put_inner(parts.inner, key, _inner_of(saved.optimizer, slot))
    faults.hit("snapshot.half_applied")
    _put_plain(engine, parts, saved.state, left_out)
    for name, buffer in engine.module.named_buffers():
        if name in saved.buffers:
            buffer.copy_(saved.buffers[name])
    with torch.no_grad():
        parts.refresh()
    _verify_model(engine, saved.model)
    if "rng" in left_out:
        draw_anew()
    else:
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


def _put_plain(
    engine: Engine, parts: Parts, state: Mapping[str, Any], left_out: Collection[str]
) -> None:
    if "scheduler" not in left_out:
        for live, group in zip(parts.inner.param_groups, state["param_groups"], strict=True):
            for key, value in group.items():
                live[key] = tuple(value) if isinstance(live[key], tuple) else value
    if "scaler" not in left_out:
        for name, value in (state["loss_scaler"] or {}).items():
            setattr(parts.scaler, name, value)
    counters = dict(state["counters"])
    # The micro-batch may have been halved since: the window's length is the live engine's.
    counters["micro_steps"] = counters["global_steps"] * engine.accumulation
    for name, value in counters.items():
        setattr(engine.deepspeed, name, value)


def _check_counters(state: Mapping[str, Any]) -> None:
    """Raise `SnapshotBroken` unless the counters are of one step boundary."""
    counters, window = state["counters"], state["accumulation"]
    if set(counters) != set(COUNTERS) or any(
        type(value) is not int or value < 0 for value in counters.values()
    ):
        raise SnapshotBroken(f"state: counters are {counters}, needs {', '.join(COUNTERS)}")
    if counters["micro_steps"] != counters["global_steps"] * window:
        raise SnapshotBroken(f"state: counters {counters} are not at a boundary of {window}")


def _check_layout(engine: Engine, state: Mapping[str, Any]) -> None:
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


def _check_pieces(parts: Parts, state: Mapping[str, Any]) -> None:
    """Compare where parameters lay in the flat tensors; a checkpoint may be older than that."""
    if state.get("pieces") is None:
        return
    saved, live = from_json(state["pieces"], "state"), as_json(parts.pieces)
    for slot in sorted({*saved, *live}):
        before = [list(piece) for piece in saved.get(slot, ())]
        for then, now in zip_longest(before, live.get(slot, ())):
            if then != now:
                raise SnapshotMismatch(
                    f"state: pieces of {slot} had {then} when saved, have {now} now"
                )


def _check_settings(parts: Parts, state: Mapping[str, Any]) -> None:
    """Compare what the optimizer was told, except the rate: each step sets its own."""
    live, saved = hyper_parameters(parts.inner), state["param_groups"]
    if len(live) != len(saved):
        raise SnapshotMismatch(
            f"state: {len(saved)} param_groups were saved, the engine has {len(live)}"
        )
    for index, (mine, theirs) in enumerate(zip(live, saved, strict=True)):
        if set(mine) != set(theirs):
            odd = sorted(set(mine) ^ set(theirs))
            raise SnapshotMismatch(f"state: param_groups[{index}] differs in {', '.join(odd)}")
        for key in sorted(set(mine) - {"lr"}):
            if mine[key] != theirs[key]:
                raise SnapshotMismatch(
                    f"state: param_groups[{index}].{key} was {theirs[key]!r} when saved,"
                    f" is {mine[key]!r} now"
                )


def _check_scaler(parts: Parts, state: Mapping[str, Any]) -> None:
    live, saved = scaler_variables(parts.scaler), state["loss_scaler"]
    if (live is None) != (saved is None) or (live is not None and set(live) != set(saved)):
        raise SnapshotMismatch(
            f"state: loss_scaler had {sorted(saved or ())} when saved, the engine's has"
            f" {sorted(live or ())}"
        )


def _check_digest(part: str, tensors: Tensors, saved: RankState) -> None:
    """Compare with what this rank held when it saved; catches ranks that had drifted apart."""
    if mapping_digest(tensors) != saved.state["digests"][part]:
        raise SnapshotBroken(
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
