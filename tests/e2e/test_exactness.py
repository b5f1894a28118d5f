"""Twelve cells that cover the exactness matrix; `scripts/proof exactness` runs all 144."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.exactness.cells import METHODS, WORLDS, covering_cells, every_cell
from tests.exactness.chain import Chain, Verdict
from worker.forkserver import ForkServer

pytestmark = pytest.mark.e2e
INTERRUPTIONS = 2  # each: one with notice, one without


def test_the_covering_cells_cover() -> None:
    """Else CI would leave out what the matrix is about."""
    cells = covering_cells()
    seen = {(c.method, c.stage) for c in cells}
    assert seen == set(itertools.product(METHODS, range(4)))
    assert {(c.method, c.ranks) for c in cells} == set(itertools.product(METHODS, WORLDS))
    assert {(c.stage, c.ranks) for c in cells} == set(itertools.product(range(4), WORLDS))
    for one in METHODS:
        assert {c.precision for c in cells if c.method == one} == {"fp32", "bf16"}
        assert {c.accumulation for c in cells if c.method == one} == {1, 3}
    assert len(cells) == 12
    assert len(set(every_cell())) == 144


def test_the_covering_cells_change_no_bit(tmp_path: Path, fork_server: ForkServer) -> None:
    """Weights, every logged loss, metrics and predictions equal the uninterrupted run's."""

    def prepared(ranks: int) -> Chain:
        directory = tmp_path / f"ranks-{ranks}"
        directory.mkdir()
        cells = [cell for cell in covering_cells() if cell.ranks == ranks]
        chain = Chain(directory, fork_server, cells, seed=1)
        chain.interruptions, chain.controls = INTERRUPTIONS, int(ranks == 1)
        return chain

    chains = [prepared(ranks) for ranks in WORLDS]
    with ThreadPoolExecutor(len(chains)) as pool:
        verdicts: list[Verdict] = [v for found in pool.map(Chain.verdicts, chains) for v in found]

    assert [v.cell.label for v in verdicts if not (v.equal and v.exact)] == []
    assert sum(v.interruptions for v in verdicts) == INTERRUPTIONS * len(verdicts)
    assert sum(v.resumes for v in verdicts) >= len(verdicts)
    assert chains[0].noticed_controls() == 1
