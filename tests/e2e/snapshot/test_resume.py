"""Resume equals no interruption, for every engine layout, in fresh processes, bit for bit."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from tests.e2e.snapshot.runs import run_plan
from tests.e2e.snapshot.training import Cell, Plan
from worker.forkserver import ForkServer

pytestmark = pytest.mark.e2e

CLASSES = {
    (0, "fp32"): "AdamW",
    (0, "bf16"): "FP16_UnfusedOptimizer",
    (1, "fp32"): "DeepSpeedZeroOptimizer",
    (1, "bf16"): "BF16_Optimizer",
    (2, "fp32"): "DeepSpeedZeroOptimizer",
    (2, "bf16"): "DeepSpeedZeroOptimizer",
    (3, "fp32"): "DeepSpeedZeroOptimizer_Stage3",
    (3, "bf16"): "DeepSpeedZeroOptimizer_Stage3",
}
CELLS = [
    Cell(
        method=method,
        zero_stage=stage,
        ranks=ranks,
        precision=precision,
        accumulation=accumulation,
        persistence=persistence,
    )
    for method, precision, stage, ranks, accumulation, persistence in itertools.product(
        ("lora", "full"), ("fp32", "bf16"), range(4), (1, 2), (1, 2), (100_000, 0)
    )
    if persistence or stage == 3
]
DRIFTING = [Cell(method="drifting", zero_stage=stage, ranks=2) for stage in (0, 2, 3)]


@pytest.mark.parametrize("cell", CELLS + DRIFTING, ids=lambda cell: cell.label)
def test_a_resumed_run_equals_an_uninterrupted_one(
    server: ForkServer, tmp_path: Path, cell: Cell
) -> None:
    """Six steps in one process, and three, a capture, fresh processes and three more, agree.

    In every rank's every micro-step loss and in the digest of the weights, with dropout, and
    although capturing happened in the middle of the one and not of the other.
    """
    whole = run_plan(server, Plan(cell=cell, directory=str(tmp_path / "whole"), until=6))
    first = run_plan(server, Plan(cell=cell, directory=str(tmp_path / "first"), until=3, save_at=3))
    saved = str(tmp_path / "first/checkpoint")
    second = run_plan(
        server, Plan(cell=cell, directory=str(tmp_path / "second"), until=6, resume=saved)
    )

    assert {r["weights"] for r in whole} == {r["weights"] for r in second} != {first[0]["weights"]}
    assert len({r["weights"] for r in whole}) == 1
    for one, before, after in zip(whole, first, second, strict=True):
        assert one["losses"] == before["losses"] + after["losses"]
        assert len(after["losses"]) == 3 * cell.accumulation
    assert {r["optimizer"] for r in whole} == {CLASSES[cell.zero_stage, cell.precision]}
    assert {r["base"] for r in whole + second} == {whole[0]["base"]}


@pytest.mark.parametrize("stage", range(4))
def test_three_resumes_in_a_row_still_agree(server: ForkServer, tmp_path: Path, stage: int) -> None:
    """A chain of captures and fresh processes after every step loses nothing either."""
    cell = Cell(zero_stage=stage, ranks=2, precision="bf16", accumulation=2)
    whole = run_plan(server, Plan(cell=cell, directory=str(tmp_path / "whole"), until=4, total=4))

    saved, losses = None, []
    for step in range(1, 5):
        directory = tmp_path / f"part{step}"
        plan = Plan(
            cell=cell, directory=str(directory), until=step, total=4, resume=saved, save_at=step
        )
        part = run_plan(server, plan)
        saved, losses = str(directory / "checkpoint"), losses + part[1]["losses"]

    assert part[0]["weights"] == whole[0]["weights"]
    assert losses == whole[1]["losses"]


@pytest.mark.parametrize(
    ("stage", "precision", "part"),
    [
        *((2, "fp32", part) for part in ("inner", "step", "python", "numpy", "torch", "counters")),
        (0, "fp32", "inner"),
        (3, "fp32", "inner"),
        (0, "bf16", "masters"),
        (1, "bf16", "masters"),
        (2, "bf16", "masters"),
        (3, "bf16", "masters"),
    ],
)
def test_leaving_a_part_out_is_noticed(
    server: ForkServer, tmp_path: Path, stage: int, precision: str, part: str
) -> None:
    """Negative control: without this part the weights differ, so the tests above can fail."""
    cell = Cell(zero_stage=stage, precision=precision)
    whole = run_plan(server, Plan(cell=cell, directory=str(tmp_path / "whole"), until=6))
    run_plan(server, Plan(cell=cell, directory=str(tmp_path / "first"), until=3, save_at=3))
    plan = Plan(
        cell=cell,
        directory=str(tmp_path / "second"),
        until=6,
        resume=str(tmp_path / "first/checkpoint"),
        drop=part,
    )
    second = run_plan(server, plan)

    assert second[0]["weights"] != whole[0]["weights"]


def test_buffers_that_training_changes_are_part_of_the_state(
    server: ForkServer, tmp_path: Path
) -> None:
    """Negative control of the drifting cells: without the buffer the losses differ."""
    cell = DRIFTING[0]
    run_plan(server, Plan(cell=cell, directory=str(tmp_path / "first"), until=3, save_at=3))
    saved = str(tmp_path / "first/checkpoint")
    good, bad = (
        run_plan(
            server,
            Plan(cell=cell, directory=str(tmp_path / name), until=4, resume=saved, drop=drop),
        )
        for name, drop in (("good", None), ("bad", "buffers"))
    )

    assert good[0]["losses"] != bad[0]["losses"]


def test_the_digest_does_not_depend_on_the_layout(server: ForkServer, tmp_path: Path) -> None:
    """The same weights have the same digest for every stage and number of ranks."""
    digests = set()
    for stage, ranks, persistence in itertools.product(range(4), (1, 2), (100_000, 0)):
        cell = Cell(method="full", zero_stage=stage, ranks=ranks, persistence=persistence)
        directory = tmp_path / f"{stage}{ranks}{persistence}"
        digests |= {
            r["weights"]
            for r in run_plan(server, Plan(cell=cell, directory=str(directory), until=0))
        }

    assert len(digests) == 1
