"""Where each of DeepSpeed's optimizers keeps its state: one small function per class.

None of these attributes is a stable interface, so deepspeed is pinned (pyproject) and only the
classes in `_PARTS` are accepted. All were checked bit for bit in `tests/e2e/snapshot`.

| class of `engine.optimizer`     | used for                   | fp32 masters               |
|---------------------------------|----------------------------|----------------------------|
| `AdamW`                         | ZeRO 0 in fp32             | the parameters themselves  |
| `FP16_UnfusedOptimizer`         | ZeRO 0 in bf16             | one per parameter          |
| `DeepSpeedZeroOptimizer`        | ZeRO 1 in fp32, and ZeRO 2 | a flat piece per group     |
| `BF16_Optimizer`                | ZeRO 1 in bf16, fp32 sums  | a flat piece per group     |
| `DeepSpeedZeroOptimizer_Stage3` | ZeRO 3                     | a flat piece per sub-group |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import torch

from worker.snapshot.pieces import Pieces, of_each, of_flat
from worker.snapshot.state import UnsupportedEngine

if TYPE_CHECKING:
    from worker.engine import Engine


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """An engine's optimizer, taken apart. Everything is live, nothing is copied."""

    inner: torch.optim.Optimizer
    slots: Mapping[str, torch.Tensor]  # name -> the tensor that is the inner state's key
    masters: bool  # the slots are fp32 masters, apart from the module's tensors
    replicated: bool  # every rank holds the same
    pieces: Pieces  # where parameters lie in slots that hold parts of them; empty: whole ones
    scaler: Any | None  # the object with the loss scaler's variables
    refresh: Callable[[], None]  # masters -> module; collective


def parts_of(engine: Engine) -> Parts:
    """Return the parts of `engine`'s optimizer. Raises `UnsupportedEngine`."""
    optimizer = engine.deepspeed.optimizer
    name = type(optimizer).__name__
    take = _PARTS.get(f"{type(optimizer).__module__}.{name}")
    if take is None:
        raise UnsupportedEngine(
            f"cannot take {type(optimizer).__module__}.{name} apart; supported are"
            f" {', '.join(sorted(_PARTS))}: use engine.zero_stage 0–3, fp32 or bf16, with the"
            " pinned deepspeed"
        )
    parts = take(engine, optimizer)
    if type(parts.inner) is not torch.optim.AdamW:
        raise UnsupportedEngine(
            f"the inner optimizer is {type(parts.inner).__name__}, expected torch's AdamW"
        )
    return parts


def _nothing() -> None:
    """The masters are the module's own tensors."""


def _adamw(engine: Engine, optimizer: Any) -> Parts:
    return Parts(
        inner=optimizer,
        slots=dict(engine.trained_parameters()),
        masters=False,
        replicated=True,
        pieces={},
        scaler=None,
        refresh=_nothing,
    )


def _unfused(engine: Engine, optimizer: Any) -> Parts:
    names = {id(p): name for name, p in engine.trained_parameters()}
    pairs = [
        (low, master)
        for lows, masters in zip(optimizer.fp16_groups, optimizer.fp32_groups, strict=True)
        for low, master in zip(lows, masters, strict=True)
    ]

    def refresh() -> None:
        for low, master in pairs:
            low.data.copy_(master.data)

    return Parts(
        inner=optimizer.optimizer,
        slots={names[id(low)]: master for low, master in pairs},
        masters=True,
        replicated=True,
        pieces={},
        scaler=optimizer.loss_scale_config,
        refresh=refresh,
    )


def _zero_1_2(engine: Engine, optimizer: Any) -> Parts:
    slots = _numbered("group", optimizer.single_partition_of_fp32_groups)
    members = [
        list(zip(group, offsets, strict=True))
        for group, offsets in zip(
            optimizer.round_robin_bit16_groups, optimizer.round_robin_bit16_offsets, strict=True
        )
    ]
    return Parts(
        inner=optimizer.optimizer,
        slots=slots,
        masters=True,
        replicated=False,
        pieces=_flat_pieces(engine, slots, members),
        scaler=optimizer.loss_scaler,
        refresh=optimizer.update_lp_params,
    )


def _bf16(engine: Engine, optimizer: Any) -> Parts:
    slots = _numbered("group", optimizer.fp32_groups_flat_partition)
    members = []
    for group in optimizer.bf16_groups:
        places = accumulate((p.numel() for p in group), initial=0)
        members.append(list(zip(group, places, strict=False)))  # the last place is the end
    return Parts(
        inner=optimizer.optimizer,
        slots=slots,
        masters=True,
        replicated=False,
        pieces=_flat_pieces(engine, slots, members),
        scaler=None,  # bf16 needs none
        refresh=optimizer.update_lp_params,
    )


def _zero_3(engine: Engine, optimizer: Any) -> Parts:
    flats = optimizer.fp16_partitioned_groups_flat

    def refresh() -> None:
        # Whole copies of parameters are stale from here on: they are dropped, and the small
        # ones, which every rank keeps whole between steps, are gathered again at the end.
        for _, parameter in engine.trained_parameters():
            parameter.partition([parameter])
        for index, (low, master) in enumerate(
            zip(flats, optimizer.fp32_partitioned_groups_flat, strict=True)
        ):
            low.data.copy_(master.data)
            group = optimizer.fp16_partitioned_groups[index]
            for piece, view in zip(group, optimizer.unflatten(low, group), strict=True):
                piece.data = view.data
        if optimizer.persistent_parameters:
            optimizer.persistent_parameters[0].all_gather(optimizer.persistent_parameters)

    slots = _numbered("subgroup", optimizer.fp32_partitioned_groups_flat)
    names = {id(p): name for name, p in engine.trained_parameters()}
    pieces = {
        slot: tuple(
            of_each(
                ((names[id(p)], p.ds_numel, p.partition_numel()) for p in group), rank=engine.rank
            )
        )
        for slot, group in zip(slots, optimizer.fp16_groups, strict=True)
    }
    return Parts(
        inner=optimizer.optimizer,
        slots=slots,
        masters=True,
        replicated=False,
        pieces=pieces,
        scaler=optimizer.loss_scaler,
        refresh=refresh,
    )


def _flat_pieces(
    engine: Engine,
    slots: Mapping[str, torch.Tensor],
    members: Sequence[Sequence[tuple[torch.nn.Parameter, int]]],
) -> Pieces:
    """Return the pieces of slots that are equal parts of long tensors; members: by place."""
    names = {id(p): name for name, p in engine.trained_parameters()}
    return {
        slot: tuple(
            of_flat(
                ((names[id(p)], p.numel(), place) for p, place in group),
                rank=engine.rank,
                length=flat.numel(),
            )
        )
        for (slot, flat), group in zip(slots.items(), members, strict=True)
    }


def _numbered(word: str, tensors: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    return {f"{word}{index:05d}": tensor for index, tensor in enumerate(tensors)}


_PARTS: dict[str, Callable[[Engine, Any], Parts]] = {
    "torch.optim.adamw.AdamW": _adamw,
    "deepspeed.runtime.fp16.unfused_optimizer.FP16_UnfusedOptimizer": _unfused,
    "deepspeed.runtime.zero.stage_1_and_2.DeepSpeedZeroOptimizer": _zero_1_2,
    "deepspeed.runtime.bf16_optimizer.BF16_Optimizer": _bf16,
    "deepspeed.runtime.zero.stage3.DeepSpeedZeroOptimizer_Stage3": _zero_3,
}
