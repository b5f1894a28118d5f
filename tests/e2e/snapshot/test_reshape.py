"""Another number of ranks takes the same state over, element by element."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.snapshot.reshaping import digests_of_chain
from tests.e2e.snapshot.training import Cell
from worker.forkserver import ForkServer

pytestmark = pytest.mark.e2e

# One of each class of DeepSpeed's optimizers; the proof `elastic` has all layouts and worlds.
CELLS = [
    Cell(zero_stage=0, precision="bf16", accumulation=4),
    Cell(method="full", zero_stage=1, precision="bf16", accumulation=4),
    Cell(method="full", zero_stage=2, accumulation=4),
    Cell(
        method="full", zero_stage=3, precision="bf16", accumulation=4, persistence=0, subgroup=900
    ),
]


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.label)
def test_a_state_is_the_same_in_every_world(server: ForkServer, tmp_path: Path, cell: Cell) -> None:
    """From one rank to two and back: masters, moments and weights, by digest."""
    first, *others = digests_of_chain(server, tmp_path, cell, [1, 2, 1])

    assert others == [first, first]
