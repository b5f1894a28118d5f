"""Any division of parameters among ranks becomes any other by copying pieces."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from worker.snapshot.pieces import Piece, as_json, copy_pieces, from_json, of_each, of_flat
from worker.snapshot.state import SnapshotBroken

SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=6)


def divided(sizes: list[int], ranks: int, kind: str) -> list[tuple[torch.Tensor, list[Piece]]]:
    """Return each rank's flat tensor and pieces of parameters that count up from 1."""
    total = sum(sizes)
    whole = torch.arange(1, total + 1, dtype=torch.float32)
    places = [sum(sizes[:i]) for i in range(len(sizes))]
    parts = []
    for rank in range(ranks):
        if kind == "flat":  # padded at the very end, as DeepSpeed's ZeRO 1 and 2 do
            length = math.ceil(total / (2 * ranks)) * 2
            padded = torch.zeros(length * ranks)
            padded[:total] = whole
            flat = padded[rank * length : (rank + 1) * length].clone()
            named = [
                (f"p{i}", n, place) for i, (n, place) in enumerate(zip(sizes, places, strict=True))
            ]
            pieces = list(of_flat(named, rank=rank, length=length))
        else:  # each padded by itself, as ZeRO 3 does
            shares = [math.ceil(n / ranks) for n in sizes]
            flat = torch.zeros(sum(shares))
            offset = 0
            for n, place, share in zip(sizes, places, shares, strict=True):
                own = whole[place : place + n][rank * share : (rank + 1) * share]
                flat[offset : offset + len(own)] = own
                offset += share
            named = [
                (f"p{i}", n, share) for i, (n, share) in enumerate(zip(sizes, shares, strict=True))
            ]
            pieces = list(of_each(named, rank=rank))
        parts.append((flat, pieces))
    return parts


@given(
    sizes=SIZES,
    before=st.integers(1, 5),
    after=st.integers(1, 5),
    kinds=st.tuples(st.sampled_from(["flat", "each"]), st.sampled_from(["flat", "each"])),
)
def test_any_division_becomes_any_other(
    sizes: list[int], before: int, after: int, kinds: tuple[str, str]
) -> None:
    """Every element arrives once, where a rank of the new division would have had it."""
    saved, wanted = divided(sizes, before, kinds[0]), divided(sizes, after, kinds[1])
    total = 0
    for expected, pieces in wanted:
        target = torch.zeros_like(expected)
        copied = sum(copy_pieces(flat, held, target, pieces) for flat, held in saved)
        assert torch.equal(target, expected)
        assert copied == sum(piece.length for piece in pieces)
        total += copied
    assert total == sum(sizes)


def test_pieces_are_plain_values_and_come_back() -> None:
    """They stand in state.json."""
    pieces = {"group00000": [Piece("a", 0, 3, 0), Piece("b", 1, 2, 3)]}

    assert from_json(as_json(pieces), "x") == pieces


@pytest.mark.parametrize(
    "value",
    [[], {"g": [["a", 0, 1]]}, {"g": [["a", 0, -1, 0]]}, {"g": [["a", 0, 1.5, 0]]}, {"g": 3}],
)
def test_other_values_are_refused(value: object) -> None:
    """What is no piece copies nothing anywhere."""
    with pytest.raises(SnapshotBroken, match=r"state\.json"):
        from_json(value, "state.json")
