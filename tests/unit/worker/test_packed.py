"""The local launcher of a pack: what each cell gets, what the whole leaves with."""

from __future__ import annotations

import pytest

from jobs.packed import Verdict
from worker.packed import allocation_code, gpu_shares

DONE, OVER, LATER = Verdict.DONE, Verdict.OVER, Verdict.LATER


@pytest.mark.parametrize(
    ("visible", "cells", "shares"),
    [
        (None, 2, [None, None]),  # a machine that hands out none
        ("4,5,6,7", 2, [["4", "5"], ["6", "7"]]),
        ("0,1", 2, [["0"], ["1"]]),
        ("", 2, [[], []]),
    ],
)
def test_gpus_are_divided(visible: str | None, cells: int, shares: list[list[str] | None]) -> None:
    """Equal and disjoint."""
    assert gpu_shares(visible, cells) == shares


@pytest.mark.parametrize(
    ("verdicts", "code"),
    [([DONE, DONE], 0), ([DONE, OVER], 1), ([LATER, OVER], 75), ([DONE, LATER], 75), ([], 0)],
)
def test_the_allocations_exit_code(verdicts: list[Verdict], code: int) -> None:
    """75 while any cell is unfinished, whatever became of the others."""
    assert allocation_code(verdicts) == code
