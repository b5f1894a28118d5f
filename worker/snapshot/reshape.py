"""A state that another number of ranks saved, as this rank's: tensors copied piece by piece.

What all ranks hold alike (ZeRO 0, the model below ZeRO 3) is rank 0's. Masters and moments of
ZeRO 1 to 3 are read one saved rank at a time, so that no rank ever holds the whole state. Random
states belong to ranks that no longer exist: the caller draws new ones. Changed
buffers come from rank 0.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from worker.snapshot.capture import DIGESTED, INNER, describe, layout_of
from worker.snapshot.digest import mapping_digest
from worker.snapshot.files import (
    OPTIMIZER,
    STATE,
    check_contents,
    decode,
    decode_state,
    decode_tensors,
    files_needed,
    rank_path,
)
from worker.snapshot.parts import Parts, parts_of
from worker.snapshot.pieces import Piece, check_disjoint, copy_pieces, from_json
from worker.snapshot.state import RankState, SnapshotBroken, SnapshotMismatch, Tensors

if TYPE_CHECKING:
    from worker.engine import Engine

Read = Callable[[str], bytes]
_STEP = "step"


def files_read(saved_ranks: int, zero_stage: int) -> list[str]:
    """Return the paths of a checkpoint that `reshaped` reads, on whichever rank."""
    paths = set(files_needed(0, saved_ranks, zero_stage))
    if zero_stage > 0:
        for rank in range(saved_ranks):
            paths |= {rank_path(rank, OPTIMIZER), rank_path(rank, STATE)}
    return sorted(paths)


def reshaped(
    engine: Engine, read: Read, *, saved_ranks: int, missing: Collection[str] = ()
) -> RankState:
    """Return this rank's share of what `saved_ranks` ranks saved; changes nothing.

    `read` gives the verified bytes of a file of the checkpoint; `missing`: what is not there and
    may be so (rank 0's random state). Raises `SnapshotBroken` for what contradicts itself, and
    `SnapshotMismatch` where the state does not say where its pieces lie.
    """
    stage, parts = engine.zero_stage, parts_of(engine)
    wanted = [path for path in files_needed(0, saved_ranks, stage) if path not in missing]
    first = decode(
        {path: read(path) for path in wanted},
        rank=0,
        world_size=saved_ranks,
        zero_stage=stage,
        may_lack_rng=bool(missing),
    )
    _check_world(first, saved_ranks)
    for part in DIGESTED:
        if not (part == "rng" and missing):
            _check_digest(part, getattr(first, part), first.state["digests"], 0)
    optimizer = first.optimizer if parts.replicated else Share(parts).filled(read, saved_ranks)
    state = dict(first.state)
    held = {"model": first.model, "optimizer": optimizer, "rng": {}, "buffers": first.buffers}
    state["layout"] = {
        **state["layout"],
        **{key: layout_of(engine)[key] for key in ("rank", "world_size")},
    }
    state["pieces"] = None  # those of another layout
    state["digests"] = {part: mapping_digest(tensors) for part, tensors in held.items()}
    state["tensors"] = {part: describe(tensors) for part, tensors in held.items()}
    return RankState(
        model=first.model, optimizer=optimizer, rng={}, buffers=first.buffers, state=state
    )


def _check_world(saved: RankState, ranks: int) -> None:
    if saved.state["layout"].get("world_size") != ranks:
        raise SnapshotBroken(
            f"state: layout.world_size is {saved.state['layout'].get('world_size')!r}, the"
            f" manifest says {ranks}"
        )


def _check_digest(part: str, tensors: Tensors, digests: dict[str, str], rank: int) -> None:
    if mapping_digest(tensors) != digests.get(part):
        raise SnapshotBroken(f"{part}: the tensors are not those that rank {rank} held")


@dataclass
class Share:
    """This rank's flat tensors, being filled.

    Slots are no more than names: how many there are may differ between the worlds (ZeRO 3 cuts a
    rank's part into subgroups of bounded size), so elements are found by their parameter.
    """

    parts: Parts
    tensors: Tensors = field(default_factory=dict)
    _elements: dict[str, int] = field(default_factory=dict)  # copied so far, by tensor
    _seen: list[Piece] = field(default_factory=list)  # all ranks'
    _step: torch.Tensor | None = None

    def filled(self, read: Read, saved_ranks: int) -> Tensors:
        """Return the tensors of `RankState.optimizer`, every element found exactly once."""
        for rank in range(saved_ranks):
            self._take_from(rank, read)
        check_disjoint(self._seen)
        for name, count in self._elements.items():
            wanted = sum(piece.length for piece in self.parts.pieces[name.split("/")[1]])
            if count != wanted:
                raise SnapshotBroken(
                    f"optimizer: {name}: the ranks saved {count} of {wanted} elements"
                )
        if self._step is not None:
            for slot in self.parts.slots:
                self.tensors[f"{INNER}{slot}/{_STEP}"] = self._step.clone()
        return self.tensors

    def _take_from(self, rank: int, read: Read) -> None:
        where = rank_path(rank, STATE)
        state = decode_state(where, read(where))
        if state.get("pieces") is None:
            raise SnapshotMismatch(
                f"{where} does not say where its pieces lie: go on with as many ranks as saved it",
                entry="pieces",
            )
        pieces = from_json(state["pieces"], where)
        path = rank_path(rank, OPTIMIZER)
        saved = decode_tensors(read(path), path)
        check_contents(path, state["tensors"].get("optimizer"), saved)
        _check_digest("optimizer", saved, state["digests"], rank)
        self._seen += [piece for held in pieces.values() for piece in held]
        for name, source in saved.items():
            kind, slot, *inner = name.split("/")
            if slot not in pieces:
                raise SnapshotBroken(f"{where}: no pieces of {slot}, which {path} has")
            if inner == [_STEP]:
                self._take_step(source, f"{path}: {name}")
            else:
                self._take(source, pieces[slot], kind, inner, f"{path}: {name}")

    def _take(
        self, source: torch.Tensor, held: Sequence[Piece], kind: str, inner: list[str], where: str
    ) -> None:
        """Copy what one saved tensor has of each of this rank's."""
        if source.dim() != 1 or any(p.offset + p.length > source.numel() for p in held):
            raise SnapshotBroken(f"{where} is shorter than its pieces")
        for slot, wanted in self.parts.pieces.items():
            name = "/".join([kind, slot, *inner])
            if name not in self.tensors:  # also where this rank has nothing but padding of it
                self.tensors[name] = torch.zeros(self.parts.slots[slot].shape, dtype=source.dtype)
                self._elements[name] = 0
            if self.tensors[name].dtype != source.dtype:
                raise SnapshotBroken(f"{where} is {source.dtype}, other ranks' are not")
            self._elements[name] += copy_pieces(source, held, self.tensors[name], wanted)

    def _take_step(self, value: torch.Tensor, where: str) -> None:
        """All flat tensors are stepped together: there is one number."""
        if self._step is None:
            self._step = value
        if not torch.equal(self._step, value):
            raise SnapshotBroken(f"{where} is {value.item()}, another is {self._step.item()}")
