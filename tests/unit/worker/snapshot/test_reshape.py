"""Parts of an optimizer's state, dealt out to other ranks: all of it, once, or refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.worker.snapshot.test_pieces import divided
from worker.snapshot.capture import describe
from worker.snapshot.digest import mapping_digest
from worker.snapshot.files import encode_tensors, rank_path
from worker.snapshot.parts import Parts
from worker.snapshot.pieces import Piece, as_json
from worker.snapshot.reshape import Share
from worker.snapshot.state import SnapshotError, Tensors

SIZES = [7, 1, 12, 5]
Rank = tuple[Tensors, dict[str, Any]]


def world(sizes: list[int], ranks: int, slots: int) -> list[tuple[Tensors, dict[str, list[Piece]]]]:
    """Return each rank's tensors and pieces; the parameters are cut among `slots` subgroups."""
    cells: list[tuple[Tensors, dict[str, list[Piece]]]] = [({}, {}) for _ in range(ranks)]
    share = -(-len(sizes) // slots)
    first = 0
    for slot in range(slots):
        some = sizes[slot * share : (slot + 1) * share]
        if not some:
            continue
        for (tensors, pieces), (flat, held) in zip(
            cells, divided(some, ranks, "each"), strict=True
        ):
            name = f"subgroup{slot:05d}"
            place = sum(sizes[: slot * share])
            shifted = torch.where(flat > 0, flat + place, flat)
            tensors |= {
                f"master/{name}": shifted,
                f"inner/{name}/exp_avg": shifted * 2,
                f"inner/{name}/step": torch.tensor(3.0),
            }
            pieces[name] = [p._replace(name=f"p{int(p.name[1:]) + first}") for p in held]
        first += len(some)
    return cells


def files_of(cells: list[tuple[Tensors, dict[str, list[Piece]]]]) -> dict[str, bytes]:
    """Return what the ranks would have written."""
    files = {}
    for rank, (tensors, pieces) in enumerate(cells):
        files[rank_path(rank, "optimizer.safetensors")] = encode_tensors(tensors)
        state = {
            "format": 1,
            "layout": {},
            "counters": {},
            "accumulation": 1,
            "param_groups": [],
            "loss_scaler": None,
            "pieces": as_json(pieces),
            "rng": {},
            "digests": {"optimizer": mapping_digest(tensors)},
            "tensors": {"optimizer": describe(tensors)},
        }
        files[rank_path(rank, "state.json")] = json.dumps(state).encode()
    return files


def share_of(cell: tuple[Tensors, dict[str, list[Piece]]]) -> Share:
    """Return the share of a rank that holds such tensors."""
    tensors, pieces = cell
    slots = {name: tensors[f"master/{name}"] for name in pieces}
    parts = Parts(
        inner=cast("Any", None),
        slots=slots,
        masters=True,
        replicated=False,
        pieces=pieces,
        scaler=None,
        refresh=lambda: None,
    )
    return Share(parts)


@given(
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=6),
    before=st.tuples(st.integers(1, 4), st.integers(1, 3)),
    after=st.tuples(st.integers(1, 4), st.integers(1, 3)),
)
def test_every_element_arrives_whatever_the_ranks_and_their_subgroups(
    sizes: list[int], before: tuple[int, int], after: tuple[int, int]
) -> None:
    """More ranks have smaller parts, and so fewer subgroups: the slots' names then differ."""
    files = files_of(world(sizes, *before))

    for cell in world(sizes, *after):
        found = share_of(cell).filled(files.__getitem__, before[0])
        assert mapping_digest(found) == mapping_digest(cell[0])


def change_state(change: Callable[[dict[str, Any]], object]) -> Callable[[dict[str, bytes]], None]:
    """Return the change of rank 1's state.json."""

    def changed(files: dict[str, bytes]) -> None:
        state = json.loads(files[rank_path(1, "state.json")])
        change(state)
        files[rank_path(1, "state.json")] = json.dumps(state).encode()

    return changed


def change_tensor(name: str, value: torch.Tensor) -> Callable[[dict[str, bytes]], None]:
    """Return the change of a tensor of rank 1, with everything that describes it."""

    def changed(files: dict[str, bytes]) -> None:
        cells = world(SIZES, 2, 1)
        cells[1][0][name] = value
        files |= files_of(cells)

    return changed


GROUP = "subgroup00000"
TABLE = [
    # what is wrong with rank 1, and the words that say so
    (change_state(lambda s: s.pop("pieces")), "does not say where its pieces lie"),
    (change_state(lambda s: s.update(pieces=3)), "pieces are not what they should be"),
    (change_state(lambda s: s["pieces"].clear()), f"no pieces of {GROUP}"),
    (change_state(lambda s: s["pieces"][GROUP].pop()), "the ranks saved 23 of 25 elements"),
    (
        change_state(lambda s: s["pieces"][GROUP][0].__setitem__(1, 2)),
        "element 2 of p0 was saved twice",
    ),
    (change_state(lambda s: s["pieces"][GROUP][0].__setitem__(3, 99)), "shorter than its pieces"),
    (change_state(lambda s: s["digests"].update(optimizer="x")), "not those that rank 1 held"),
    (change_state(lambda s: s["tensors"]["optimizer"].clear()), "state.json lists nothing"),
    (change_tensor(f"inner/{GROUP}/step", torch.tensor(4.0)), "is 4.0, another is 3.0"),
    (change_tensor(f"master/{GROUP}", torch.zeros(3)), "shorter than its pieces"),
    (
        change_tensor(f"master/{GROUP}", torch.zeros(99, dtype=torch.bfloat16)),
        "is torch.bfloat16, other ranks' are not",
    ),
]


@pytest.mark.parametrize(("change", "words"), TABLE, ids=[words for _, words in TABLE])
def test_what_contradicts_itself_is_refused(
    change: Callable[[dict[str, bytes]], None], words: str
) -> None:
    """Digests of files say nothing about what a writer got wrong."""
    files = files_of(world(SIZES, 2, 1))
    (whole,) = world(SIZES, 1, 1)
    share_of(whole).filled(files.__getitem__, 2)
    change(files)

    with pytest.raises(SnapshotError, match=words):
        share_of(whole).filled(files.__getitem__, 2)
