"""DeepSpeed's configuration is a pure function of the spec."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from jobs.contract.records import Overrides
from jobs.geometry import BatchGeometry, batch_geometry
from jobs.spec import Semantic
from worker.engine_config import MAX_BUCKET_ELEMENTS, engine_config


def _semantic(**engine: Any) -> Semantic:
    return Semantic.model_validate(
        {
            "model": {"family": "decoder", "config": {"n_layer": 1}},
            "method": {"name": "full"},
            "task": {"name": "tsv", "path": "package:quickstart"},
            "train": {"steps": 5, "global_batch": 16, "micro_batch": 4, "max_grad_norm": 0.7},
            "engine": {"ranks": 2} | engine,
            "seed": 1,
        }
    )


def _config(semantic: Semantic, overrides: Overrides | None = None) -> dict[str, Any]:
    return engine_config(semantic, overrides or Overrides(), trained_elements=1000, overlap=False)


def test_a_halved_micro_batch_keeps_the_global_batch() -> None:
    """The override changes the cut, never the sum."""
    cut = batch_geometry(_semantic(), Overrides(micro_batch=2))

    assert cut == BatchGeometry(micro_batch=2, accumulation=4, ranks=2)
    assert cut.global_batch == batch_geometry(_semantic(), Overrides()).global_batch == 16


@pytest.mark.parametrize("micro", [3, 16])
def test_an_override_that_does_not_divide_is_refused(micro: int) -> None:
    """The message says which numbers do not fit."""
    with pytest.raises(ValueError, match=f"micro_batch {micro} × 2 ranks"):
        batch_geometry(_semantic(), Overrides(micro_batch=micro))


def test_the_batch_triple_is_consistent() -> None:
    """DeepSpeed refuses a triple that does not multiply; ours always does."""
    for micro in (1, 2, 4, 8):
        config = _config(_semantic(), Overrides(micro_batch=micro))

        assert config["train_batch_size"] == 16
        assert (
            config["train_micro_batch_size_per_gpu"] * config["gradient_accumulation_steps"] * 2
        ) == 16


def test_nothing_is_compiled_and_no_rate_is_left_in() -> None:
    """Torch's AdamW; the rate comes from the schedule before each step."""
    optimizer = _config(_semantic())["optimizer"]

    assert optimizer["params"]["torch_adam"] is True
    assert optimizer["params"]["lr"] == 0.0


@pytest.mark.parametrize(
    ("stage", "precision"), list(itertools.product(range(4), ("fp32", "bf16")))
)
def test_stage_and_precision_reach_the_engine(stage: int, precision: str) -> None:
    """bf16 adds gradients in fp32 wherever DeepSpeed can."""
    config = _config(_semantic(zero_stage=stage, precision=precision))

    assert config["zero_optimization"]["stage"] == stage
    assert config["gradient_clipping"] == 0.7
    assert ("bf16" in config) == (precision == "bf16")
    assert ("data_types" in config) == (precision == "bf16" and stage > 0)


def test_buckets_are_bounded_on_both_sides() -> None:
    """A tiny model does not reserve gigabytes; a huge one does not either."""
    sizes = {
        elements: engine_config(
            _semantic(zero_stage=2), Overrides(), trained_elements=elements, overlap=False
        )["zero_optimization"]["reduce_bucket_size"]
        for elements in (1, 1000, 10**12)
    }

    assert sizes == {1: 1, 1000: 1000, 10**12: MAX_BUCKET_ELEMENTS}
