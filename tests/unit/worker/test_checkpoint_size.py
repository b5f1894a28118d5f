"""What is predicted without torch is what the models really have."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from jobs.checkpoint_size import (
    _SHAPES,
    RANK_BYTES,
    checkpoint_bytes,
    model_shapes,
    peak_bytes,
    trained_elements,
)
from jobs.spec import Run, Semantic
from tests.e2e.harness import semantic
from tests.unit.worker.test_registries import TOKENIZER, build
from worker.methods import apply_method

TOKENS = len(TOKENIZER)


def job(architecture: str, **changes: object) -> Semantic:
    """Return a job of the architecture with the catalog's defaults and TOKENS."""
    model = {"family": "decoder", "architecture": architecture, "config": {}}
    model["tokenizer"] = {"vocab_size": TOKENS}
    return semantic(Path("task"), model=model, **changes)


def trained(model: torch.nn.Module) -> int:
    """Return how many elements are trained."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("architecture", sorted(_SHAPES))
@pytest.mark.parametrize("method", [{"name": "full"}, {"name": "lora", "rank": 3}])
def test_the_trained_elements_are_those_of_the_built_model(
    architecture: str, method: dict[str, object]
) -> None:
    """To the element, for full fine-tuning and for LoRA's default targets."""
    wanted = job(architecture, method=method)
    shapes = model_shapes(wanted, None)
    assert shapes is not None
    model = build(architecture)
    rows = model.get_input_embeddings().weight.shape[0]
    model = apply_method(model, wanted.method, seed=1)
    assert rows == TOKENS
    assert trained_elements(wanted, shapes) == trained(model)


def test_headers_of_a_models_files_are_enough(tmp_path: Path) -> None:
    """Nothing but the header is read; a file that is no safetensors is not guessed about."""
    path = {"family": "decoder", "path": "base"}
    wanted = semantic(
        Path("task"), model=path, method={"name": "lora", "rank": 2, "targets": ["q"]}
    )
    save_file(
        {"a.q.weight": torch.zeros(3, 5), "a.q.bias": torch.zeros(3)}, tmp_path / "1.safetensors"
    )
    save_file({"a.k.weight": torch.zeros(7, 5)}, tmp_path / "2.safetensors")
    shapes = model_shapes(wanted, tmp_path)
    assert shapes is not None
    assert trained_elements(wanted, shapes) == 2 * (3 + 5)
    full = semantic(Path("task"), model=path, method={"name": "full"})
    assert trained_elements(full, shapes) == 15 + 3 + 35

    assert model_shapes(wanted, None) is None
    (tmp_path / "3.safetensors").write_bytes(b"\xff" * 64)
    assert model_shapes(wanted, tmp_path) is None


@pytest.mark.parametrize(
    ("engine", "each"),
    [
        ({"zero_stage": 0, "precision": "fp32"}, 4 + 0 + 8 + 4),
        ({"zero_stage": 2, "precision": "fp32"}, 4 + 4 + 8 + 4),
        ({"zero_stage": 1, "precision": "bf16"}, 2 + 4 + 8 + 4),
        ({"zero_stage": 3, "precision": "bf16"}, 0 + 4 + 8 + 4),
    ],
)
def test_bytes_an_element(engine: dict[str, object], each: int) -> None:
    """Weights, masters, AdamW's moments and the best weights; and something for each rank."""
    wanted = job("gpt2", engine={"ranks": 2, "threads_per_rank": 1, **engine})
    assert checkpoint_bytes(wanted, 1000) == 1000 * each + 2 * RANK_BYTES


def test_a_job_needs_what_it_keeps_and_one_more() -> None:
    """Two are kept and one is written; milestones of its steps come on top."""
    wanted = job("gpt2", train__steps=100)
    assert peak_bytes(wanted, Run.model_validate({"save": {"keep": 2}}), 10) == 30
    run = Run.model_validate({"save": {"keep": 3, "keep_every_steps": 30}})
    assert peak_bytes(wanted, run, 10) == 70
