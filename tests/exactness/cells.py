"""The cells of the exactness matrix: all ways to train whose resumes must change no bit."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.spec import Semantic
from tests.e2e.harness import semantic

STEPS, SAVE_EVERY = 12, 3
METHODS: dict[str, dict[str, Any]] = {
    "lora": {"name": "lora", "rank": 4, "alpha": 8.0, "dropout": 0.1},
    "full": {"name": "full"},
    "subset": {"name": "subset", "parameters": 9000},
}
WORLDS = (1, 2, 4)


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Cell:
    """One way to train. Dropout is always on."""

    ranks: int
    method: str
    stage: int
    precision: str
    accumulation: int

    @property
    def label(self) -> str:
        """Return a short name."""
        return f"{self.method}-z{self.stage}-r{self.ranks}-{self.precision}-a{self.accumulation}"

    def semantic(self, task: Path) -> Semantic:
        """Return what the cell's job is."""
        micro = 2
        return semantic(
            task,
            method=METHODS[self.method],
            train__steps=STEPS,
            train__micro_batch=micro,
            train__global_batch=micro * self.accumulation * self.ranks,
            engine__ranks=self.ranks,
            engine__zero_stage=self.stage,
            engine__precision=self.precision,
        )


def every_cell() -> Iterator[Cell]:
    """Yield the whole matrix."""
    for ranks, method, stage, precision, accumulation in itertools.product(
        WORLDS, METHODS, range(4), ("fp32", "bf16"), (1, 3)
    ):
        yield Cell(
            ranks=ranks,
            method=method,
            stage=stage,
            precision=precision,
            accumulation=accumulation,
        )


def covering_cells() -> list[Cell]:
    """Return twelve cells that have every pair of method and stage, method and ranks, stage
    and ranks, and both precisions and accumulations with each of those.
    """
    chosen = []
    for method_number, method in enumerate(METHODS):
        for stage in range(4):
            turn = method_number + stage
            chosen.append(
                Cell(
                    ranks=WORLDS[turn % 3],
                    method=method,
                    stage=stage,
                    precision=("fp32", "bf16")[(stage // 2 + method_number) % 2],
                    accumulation=(1, 3)[turn % 2],
                )
            )
    return chosen
