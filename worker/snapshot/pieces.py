"""Where the elements of each trained parameter lie in the flat tensors that ZeRO divides them into.

Every rank writes its own pieces beside its tensors. So another number of ranks can take the state
over by copying intervals, without knowing how DeepSpeed divided it then.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch

from worker.snapshot.state import SnapshotBroken


class Piece(NamedTuple):
    """Elements [start, start + length) of a parameter, row by row, at `offset` of a flat tensor."""

    name: str
    start: int
    length: int
    offset: int


Pieces = Mapping[str, Sequence[Piece]]  # by slot


def of_flat(members: Iterable[tuple[str, int, int]], *, rank: int, length: int) -> Iterator[Piece]:
    """Yield a rank's pieces where the ranks hold equal parts of one long tensor (ZeRO 1 and 2).

    `members`: name, number of elements and place in the whole; `length`: of a rank's part.
    """
    begin, end = rank * length, (rank + 1) * length
    for name, count, place in members:
        low, high = max(begin, place), min(end, place + count)
        if low < high:
            yield Piece(name, low - place, high - low, low - begin)


def of_each(members: Iterable[tuple[str, int, int]], *, rank: int) -> Iterator[Piece]:
    """Yield a rank's pieces where each parameter is divided by itself (ZeRO 3).

    `members`: name, number of elements, and elements of a rank's part with its padding.
    """
    offset = 0
    for name, count, share in members:
        start = rank * share
        length = min(share, count - start)
        if length > 0:
            yield Piece(name, start, length, offset)
        offset += share


def as_json(pieces: Pieces) -> dict[str, list[list[Any]]]:
    """Return pieces as plain values."""
    return {slot: [list(piece) for piece in held] for slot, held in pieces.items()}


def from_json(value: Any, where: str) -> dict[str, list[Piece]]:
    """Return the pieces of plain values. Raises `SnapshotBroken` naming `where`."""
    try:
        found = {slot: [Piece(*item) for item in held] for slot, held in value.items()}
    except (AttributeError, TypeError) as error:
        raise SnapshotBroken(f"{where}: pieces are not what they should be: {error}") from error
    for slot, held in found.items():
        for piece in held:
            numbers = (piece.start, piece.length, piece.offset)
            if not isinstance(piece.name, str) or any(type(n) is not int or n < 0 for n in numbers):
                raise SnapshotBroken(f"{where}: pieces of {slot} have {piece}")
    return found


def check_disjoint(held: Iterable[Piece]) -> None:
    """Raise `SnapshotBroken` where two of all ranks' pieces claim one element."""
    before: Piece | None = None
    for piece in sorted(held):
        end = before.start + before.length if before and before.name == piece.name else 0
        if piece.start < end:
            raise SnapshotBroken(f"pieces: element {piece.start} of {piece.name} was saved twice")
        before = piece


def copy_pieces(
    source: torch.Tensor,
    held: Sequence[Piece],
    target: torch.Tensor,
    wanted: Sequence[Piece],
) -> int:
    """Copy what `source` holds of what `target` wants; return the number of elements."""
    by_name: dict[str, list[Piece]] = {}
    for piece in held:
        by_name.setdefault(piece.name, []).append(piece)
    copied = 0
    for want in wanted:
        for have in by_name.get(want.name, ()):
            low = max(want.start, have.start)
            high = min(want.start + want.length, have.start + have.length)
            if low >= high:
                continue
            into = want.offset + low - want.start
            out_of = have.offset + low - have.start
            target[into : into + high - low] = source[out_of : out_of + high - low]
            copied += high - low
    return copied
