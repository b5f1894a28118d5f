"""`sample:` some of a block's cells, drawn at random by a seed of the file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from random import Random
from typing import TYPE_CHECKING

from jobs.matrix.findings import Findings
from jobs.names import printable
from jobs.yaml_strict import Document, KeyPath, Node

if TYPE_CHECKING:
    from jobs.matrix.expansion import Cell

KEYS = ("cells", "seed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """So many cells, each with all its seeds. Equal matrices draw equal cells, for ever."""

    cells: int
    seed: int
    path: KeyPath

    def drawn(self, cells: Sequence[Cell]) -> list[Cell]:
        """Return the cells that are drawn, in the order of the file; all if there are fewer."""
        siblings = [list(group) for _, group in groupby(cells, key=lambda cell: id(cell.data))]
        if self.cells >= len(siblings):
            return list(cells)
        # random() is the same in every version of Python; sample() need not be.
        draw = Random(self.seed).random  # noqa: S311 - no secret
        order = sorted(range(len(siblings)), key=[draw() for _ in siblings].__getitem__)
        return [cell for place in sorted(order[: self.cells]) for cell in siblings[place]]


def read_sample(document: Document, node: Node, path: KeyPath, findings: Findings) -> Sample | None:
    """Return a block's `sample`, None where it is wrong."""
    values = node if isinstance(node, dict) else {"cells": node}
    numbers = {"cells": 0, "seed": 0}
    for key, value in values.items():
        least = 1 if key == "cells" else 0
        where = (*path, key) if isinstance(node, dict) else path
        if key not in KEYS:
            message, fix = f"unknown key {printable(key)}", f"write {', '.join(KEYS)}"
            findings.add(document.problem(where, message, fix, key=True))
        elif isinstance(value, bool) or not isinstance(value, int) or value < least:
            message = f"must be a whole number of at least {least}, not {printable(value)}"
            findings.add(document.problem(where, message, "write e.g. `{cells: 20, seed: 1}`"))
            return None
        else:
            numbers[key] = value
    if not numbers["cells"]:
        message = "does not say how many cells"
        findings.add(document.problem(path, message, "write e.g. `{cells: 20, seed: 1}`"))
        return None
    return Sample(cells=numbers["cells"], seed=numbers["seed"], path=path)
