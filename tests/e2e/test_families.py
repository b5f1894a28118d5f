"""Every method trains on every family that it is for, and a stop changes no bit."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path
from typing import Any

import pytest

from jobs.catalog import METHOD_FAMILIES
from tests.e2e.comparison import bench, outcome, uninterrupted
from tests.e2e.test_export import exported
from tests.e2e.test_preempted_evaluation import MANY, TEST
from worker.export import main
from worker.forkserver import ForkServer

pytestmark = pytest.mark.e2e
T5 = {"num_layers": 1, "d_model": 32, "num_heads": 2, "d_ff": 64}
BERT = {"num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 2}
PAIR: dict[str, Any] = {"engine__ranks": 2, "train__global_batch": 8}
FAMILIES: dict[str, dict[str, Any]] = {
    "decoder": {},
    "seq2seq": {"model__family": "seq2seq", "model__config": T5},
    "encoder": {"model__family": "encoder", "model__config": BERT, "train__lr": 2e-3},
}
METHODS: dict[str, dict[str, Any]] = {
    "lora": {},
    "full": {"method": {"name": "full"}},
    "subset": {"method": {"name": "subset", "parameters": 9000}},
    "ia3": {"method": {"name": "ia3"}, "train__lr": 0.1},
    "prompt": {"method": {"name": "prompt", "tokens": 4}, "train__lr": 0.3},
    "prefix": {"method": {"name": "prefix", "tokens": 4}, "train__lr": 0.1},
    "bitfit": {"method": {"name": "bitfit", "create": True}},
    "adapter": {"method": {"name": "adapter", "rank": 4}},
    "parallel": {"method": {"name": "parallel_adapter", "rank": 4, "scale": 2.0}},
    "compacter": {"method": {"name": "compacter", "rank": 8}},
    "apet": {"method": {"name": "apet", "budget": 6000, "lora_rank": 2, "adapter_rank": 4}},
    "masked": {"method": {"name": "apet", "budget": "lora", "masks": True, "lora_rank": 4}},
    "projected": {
        "method": {"name": "prefix", "tokens": 4, "projection": True, "projection_size": 16}
    },
}
STAGES = (0, 1, 2, 3)
# Each method and each family in CI; `scripts/proof methods` runs every cell.
CELLS = [
    ("seq2seq", "lora", 0),
    ("seq2seq", "lora", 3),
    ("seq2seq", "full", 3),
    ("seq2seq", "subset", 2),
    ("seq2seq", "ia3", 0),
    ("seq2seq", "prompt", 0),
    ("seq2seq", "prefix", 0),
    ("seq2seq", "bitfit", 1),
    ("seq2seq", "adapter", 3),
    ("seq2seq", "compacter", 2),
    ("encoder", "lora", 0),
    ("encoder", "full", 3),
    ("encoder", "bitfit", 2),
    ("encoder", "prompt", 1),
    ("encoder", "compacter", 3),
    ("encoder", "apet", 0),
    ("seq2seq", "apet", 1),
    ("decoder", "apet", 3),
    ("decoder", "masked", 0),
    ("seq2seq", "masked", 3),
    ("decoder", "ia3", 2),
    ("decoder", "prompt", 0),
    ("decoder", "projected", 0),
    ("decoder", "parallel", 3),
]
if os.environ.get("ORCH_ALL_METHODS"):
    CELLS = [
        cell
        for cell in itertools.product(FAMILIES, METHODS, STAGES)
        if cell[0] in METHOD_FAMILIES[METHODS[cell[1]].get("method", {"name": "lora"})["name"]]
    ]


@pytest.mark.parametrize(("family", "method", "stage"), CELLS)
def test_a_preempted_run_ends_in_the_same_bits(
    tmp_path: Path, fork_server: ForkServer, family: str, method: str, stage: int
) -> None:
    """In the midst of training and of the test; the loss falls."""
    changes = {**PAIR, **FAMILIES[family], **METHODS[method], "engine__zero_stage": stage}
    changes["held_out"] = MANY if stage == 3 else 11
    whole = uninterrupted(tmp_path, fork_server, **changes)
    job = bench(tmp_path, "broken", fork_server, **changes)

    assert job.attempt(stop_at=5).exit_code == 75
    testing = job.attempt(stop_at=1, point=TEST)
    assert testing.exit_code == 75, testing.log()
    job.until_done(limit=1)

    assert outcome(job) == whole
    rows = [json.loads(line) for line in job.job.metrics.read_bytes().splitlines()]
    losses = [row["loss"] for row in rows if "loss" in row]
    assert sum(losses[-3:]) < sum(losses[:3])


def test_a_seq2seq_answer_is_written_and_its_adapter_exported(
    tmp_path: Path, fork_server: ForkServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """Generation begins at the start token; peft loads what is exported."""
    changes = {
        **PAIR,
        **FAMILIES["seq2seq"],
        "task__metrics": ["squad_f1"],
        "task__max_new_tokens": 3,
    }
    job = bench(tmp_path, "job", fork_server, **changes)
    job.until_done(limit=1)

    assert "squad_f1" in job.result.metrics["test"]
    assert exported(job, tmp_path / "adapter", capsys) == 0.0


@pytest.mark.parametrize(("method", "loads"), [("lora", True), ("full", True), ("adapter", False)])
def test_an_encoder_is_exported_with_its_head(
    tmp_path: Path,
    fork_server: ForkServer,
    capsys: pytest.CaptureFixture[str],
    method: str,
    *,
    loads: bool,
) -> None:
    """peft and transformers load it with the same logits; what they cannot load is refused."""
    job = bench(tmp_path, "job", fork_server, **PAIR, **FAMILIES["encoder"], **METHODS[method])
    job.until_done(limit=1)
    if loads:
        assert exported(job, tmp_path / "made", capsys) == 0.0
        return
    words = ["--job", str(job.job.path), "--to", str(tmp_path / "made")]
    assert main(words) == 1
    assert "modules of its own" in capsys.readouterr().err
    assert not (tmp_path / "made").exists()
