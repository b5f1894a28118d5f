"""The engine trains as the spec says; its state is whole, minimal and refuses what is not its."""

from __future__ import annotations

import itertools
import random
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.snapshot.runs import run_plan
from tests.e2e.snapshot.training import Cell, Plan, batch_of, semantic_of, tiny_model
from worker.forkserver import ForkServer

pytestmark = pytest.mark.e2e

LAYOUTS = [
    Cell(zero_stage=stage, ranks=ranks, precision=precision)
    for stage, ranks, precision in itertools.product(range(4), (1, 2), ("fp32", "bf16"))
]


def _extra(server: ForkServer, directory: Path, cell: Cell, name: str, until: int = 2) -> list[Any]:
    plan = Plan(cell=cell, directory=str(directory / "run"), until=until, extra=name)
    return [report["extra"] for report in run_plan(server, plan)]


@pytest.mark.parametrize("stage", range(4))
@pytest.mark.parametrize("method", ["lora", "full"])
def test_every_stage_trains_like_plain_torch(
    server: ForkServer, tmp_path: Path, stage: int, method: str
) -> None:
    """AdamW, warm-up, clipping, decay and accumulation mean what they mean without DeepSpeed."""
    import numpy as np
    import torch
    from safetensors.torch import load_file

    cell = Cell(method=method, zero_stage=stage, accumulation=2)
    _extra(server, tmp_path, cell, "save_trained", until=4)
    got = load_file(tmp_path / "run/trained.0.safetensors")

    from worker.schedule import lr_at

    train = semantic_of(cell, 6).train
    before = (random.getstate(), np.random.get_state(), torch.get_rng_state())
    model = tiny_model(cell).train()
    random.seed(11)
    np.random.seed(12)
    torch.manual_seed(13)
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    adamw = torch.optim.AdamW(trained.values(), weight_decay=train.weight_decay)
    for step in range(4):
        for group in adamw.param_groups:
            group["lr"] = lr_at(train, step)
        for micro_step in range(2):
            (model(**batch_of(step, micro_step, 0)).loss / 2).backward()
        torch.nn.utils.clip_grad_norm_(trained.values(), train.max_grad_norm)
        adamw.step()
        adamw.zero_grad()
    random.setstate(before[0])
    np.random.set_state(before[1])
    torch.set_rng_state(before[2])

    assert set(got) == set(trained)
    for name, parameter in trained.items():  # a wrong rule would show at the size of the rate, 1e-2
        torch.testing.assert_close(got[name], parameter.detach(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("cell", LAYOUTS, ids=lambda cell: cell.label)
def test_a_live_engine_can_go_back(server: ForkServer, tmp_path: Path, cell: Cell) -> None:
    """Restoring into an engine that has trained on gives the same steps again."""
    for extra in _extra(server, tmp_path, cell, "live_restore"):
        assert extra["first"] == extra["again"]


@pytest.mark.parametrize("cell", LAYOUTS, ids=lambda cell: cell.label)
def test_other_weights_can_be_lent_for_an_evaluation(
    server: ForkServer, tmp_path: Path, cell: Cell
) -> None:
    """The best weights are tested without a trace in the training state; no capture meanwhile."""
    for extra in _extra(server, tmp_path, cell, "borrowed_weights"):
        before, during, after = extra["losses"]
        assert [extra[name] for name in ("full_is_digest", "lent_is_other", "back")] == [True] * 3
        assert before == after != during
        assert extra["refused"] == "NotAtBoundary"
        assert extra["continued"] == extra["undisturbed"]


@pytest.mark.parametrize("cell", LAYOUTS, ids=lambda cell: cell.label)
def test_every_wrong_entry_is_refused_by_name_before_anything_changes(
    server: ForkServer, tmp_path: Path, cell: Cell
) -> None:
    """Missing, surplus, mistyped and misshapen tensors and fields: 100 % refused."""
    for extra in _extra(server, tmp_path, cell, "mutations"):
        assert extra["count"] > 30
        assert extra["accepted"] == []
        assert extra["changed"] == []
        assert extra["unnamed"] == []


@pytest.mark.parametrize("stage", range(4))
def test_ranks_store_what_only_they_have(server: ForkServer, tmp_path: Path, stage: int) -> None:
    """Frozen weights are never stored, replicated ones once, and equal states are equal bytes."""
    from worker.snapshot.files import files_written

    extras = _extra(server, tmp_path, Cell(zero_stage=stage, ranks=2), "contents")

    for rank, extra in enumerate(extras):
        assert extra["names"] == files_written(rank, stage)
        assert extra["same_bytes"]
        stored = {name for names in extra["tensors"].values() for name in names}
        assert extra["frozen"]
        for frozen in extra["frozen"]:
            assert not any(frozen in name for name in stored)
    if stage < 3:
        assert extras[0]["tensors"]["model.safetensors"] == extras[0]["trained"]
        assert "model.safetensors" not in extras[1]["tensors"]
    assert ("optimizer.safetensors" in extras[1]["tensors"]) == (stage > 0)


@pytest.mark.parametrize("stage", [0, 2])
def test_replicas_that_drifted_apart_are_noticed(
    server: ForkServer, tmp_path: Path, stage: int
) -> None:
    """Rank 0's file is held against what each rank had: it never silently replaces it."""
    extras = _extra(server, tmp_path, Cell(zero_stage=stage, ranks=2), "drifted_replicas")

    assert extras[0] == "accepted"
    assert "model: the tensors are not those that rank 1 held" in extras[1]


def test_state_exists_between_steps_only(server: ForkServer, tmp_path: Path) -> None:
    """Inside an accumulation window neither a capture nor an evaluation is given."""
    (extra,) = _extra(server, tmp_path, Cell(zero_stage=2, accumulation=2), "mid_window")

    assert len(extra["refused"]) == 2
    assert "finish the step" in extra["refused"][0]
    assert (extra["boundary"], extra["steps"]) == (True, 3)


@pytest.mark.parametrize("stage", range(4))
def test_no_compiler_is_brought_in(server: ForkServer, tmp_path: Path, stage: int) -> None:
    """Inductor would cost each start of a rank three seconds."""
    cell = Cell(zero_stage=stage, precision="bf16")

    assert _extra(server, tmp_path, cell, "footprint") == [[]]


def test_an_unknown_optimizer_is_refused(server: ForkServer, tmp_path: Path) -> None:
    """What nobody has taken apart is not captured half; the message names what is supported."""
    ((kind, message),) = _extra(server, tmp_path, Cell(), "unsupported")

    assert kind == "UnsupportedEngine"
    assert "SGD" in message
    assert "DeepSpeedZeroOptimizer_Stage3" in message


@pytest.mark.parametrize("stage", [0, 3])
def test_wrong_trained_tensors_are_refused(server: ForkServer, tmp_path: Path, stage: int) -> None:
    """A best-weights file of another model does not reach the module."""
    (extra,) = _extra(server, tmp_path, Cell(zero_stage=stage), "load_refusals")

    assert not extra["borrowed"]
    for what, message in extra["found"].items():
        assert ("ghost" if what == "unknown" else extra["name"]) in message, what


@pytest.mark.parametrize("stage", range(4))
def test_a_halved_micro_batch_may_resume(server: ForkServer, tmp_path: Path, stage: int) -> None:
    """After an out-of-memory the accumulation doubles: counters follow the new window."""
    wide, narrow = (Cell(zero_stage=stage, accumulation=window) for window in (1, 2))
    run_plan(server, Plan(cell=wide, directory=str(tmp_path / "first"), until=3, save_at=3))
    plan = Plan(
        cell=narrow,
        directory=str(tmp_path / "second"),
        until=4,
        resume=str(tmp_path / "first/checkpoint"),
        extra="counters",
    )
    extra = run_plan(server, plan)[0]["extra"]

    assert (extra["global_steps"], extra["micro_steps"], extra["skipped_steps"]) == (4, 8, 0)
    assert extra["boundary"]
    assert set(extra["lr"]) == {extra["expected_lr"]}
    if stage:  # DeepSpeed does not tell it for plain AdamW
        assert extra["gradient_norm"] > 0
