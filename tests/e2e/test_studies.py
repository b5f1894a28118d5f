"""What the studies' jobs need besides methods: each survives a stop, bit for bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.comparison import bench, outcome, uninterrupted
from tests.e2e.harness import Bench
from tests.e2e.test_preempted_evaluation import TEST
from tests.unit.jobs.superni_collection import write_collection
from worker.forkserver import ForkServer

pytestmark = pytest.mark.e2e
PAIR: dict[str, Any] = {"engine__ranks": 2, "train__global_batch": 4, "train__micro_batch": None}


def losses(job: Bench) -> list[float]:
    """Return the training losses of a finished job."""
    rows = [json.loads(line) for line in job.job.metrics.read_bytes().splitlines()]
    return [row["loss"] for row in rows if "loss" in row]


def test_superni_with_a_traditional_test(tmp_path: Path, fork_server: ForkServer) -> None:
    """Stopped in both tests; scores of tasks and categories are those of one piece."""
    collection = write_collection(tmp_path / "collection")
    changes: dict[str, Any] = {
        **PAIR,
        "task__name": "superni",
        "task__path": str(collection),
        "task__superni": {"per_task": 4, "eval_per_task": 3, "traditional_test": True},
        "task__max_length": 48,
        "task__max_new_tokens": 3,
        "train__best_metric": "rougeL",
        "train__evaluate_every_steps": None,
    }
    whole = uninterrupted(tmp_path, fork_server, **changes)
    job = bench(tmp_path, "broken", fork_server, **changes)
    testing = job.attempt(stop_at=1, point=TEST)
    assert testing.exit_code == 75, testing.log()
    assert testing.progress.phase == "testing"
    again = job.attempt(stop_at=2, point="evaluate.before_further_round")
    assert again.exit_code == 75, again.log()
    assert again.progress.phase == "testing_traditional"
    job.until_done(limit=1)

    assert outcome(job) == whole
    metrics = job.result.metrics
    assert set(metrics) == {"dev", "test", "traditional"}
    names = {"rougeL", "superni_em"}
    groups = {"task.task9_test.", "task.task1_x.", "category.textual_entailment."}
    groups.add("category.question_answering.")
    wanted = {"loss", "accuracy", *names} | {group + name for group in groups for name in names}
    assert set(metrics["test"]) == wanted
    assert (job.last.predictions / "traditional.jsonl").exists()


def test_a_run_that_stops_early_stops_at_the_same_step(
    tmp_path: Path, fork_server: ForkServer
) -> None:
    """Two evaluations without a better one: the steps after are never made, resumed or not."""
    changes: dict[str, Any] = {
        "train__early_stopping": 2,
        "train__evaluate_every_steps": 1,
        "train__steps": 40,
        "train__lr": 0.5,
    }
    whole = uninterrupted(tmp_path, fork_server, **changes)
    job = bench(tmp_path, "broken", fork_server, **changes)
    assert job.attempt(stop_at=2).exit_code == 75
    assert job.attempt(stop_at=1, point=TEST).exit_code == 75
    job.until_done(limit=1)

    assert outcome(job) == whole
    assert 2 < job.result.steps < 40
    assert len(losses(job)) == job.result.steps


@pytest.mark.parametrize("family", ["decoder", "seq2seq", "encoder"])
def test_smoothed_labels_and_dropout(tmp_path: Path, fork_server: ForkServer, family: str) -> None:
    """However the batch is cut: each answer token weighs the same; evaluations are not smoothed."""
    config = {
        "decoder": {"n_layer": 1, "n_embd": 32, "n_head": 2},
        "seq2seq": {"num_layers": 1, "d_model": 32, "num_heads": 2, "d_ff": 64},
        "encoder": {"num_hidden_layers": 1, "hidden_size": 32, "num_attention_heads": 2},
    }[family]
    changes = {
        "model__family": family,
        "model__config": config,
        "model__dropout": 0.0,
        "method": {"name": "full"},
        "train__label_smoothing": 0.1,
        "train__lr": 1e-3,
    }
    whole = uninterrupted(tmp_path, fork_server, **changes)
    job = bench(tmp_path, "broken", fork_server, **changes)
    assert job.attempt(stop_at=5).exit_code == 75
    job.until_done(limit=1)
    assert outcome(job) == whole

    cut = bench(tmp_path, "cut", fork_server, **changes | {"train__micro_batch": 1})
    plain = bench(tmp_path, "plain", fork_server, **changes | {"train__label_smoothing": 0.0})
    cut.until_done(limit=1)
    plain.until_done(limit=1)
    assert losses(cut)[:4] == pytest.approx(losses(job)[:4], rel=1e-4)
    pairs = zip(losses(plain), losses(job), strict=True)
    assert max(abs(one - other) for one, other in pairs) > 1e-4


@pytest.mark.parametrize(("stage", "offload"), [(1, "optimizer"), (3, "parameters")])
def test_an_offloaded_engine_resumes(
    tmp_path: Path, fork_server: ForkServer, stage: int, offload: str
) -> None:
    """Its state is taken apart and put back as that of any other; a free key reaches DeepSpeed."""
    changes = {
        **PAIR,
        "engine__zero_stage": stage,
        "engine__offload": offload,
        "engine__deepspeed": {"zero_optimization.round_robin_gradients": True},
    }
    whole = uninterrupted(tmp_path, fork_server, **changes)
    job = bench(tmp_path, "broken", fork_server, **changes)
    assert job.attempt(stop_at=5).exit_code == 75
    job.until_done(limit=1)
    assert outcome(job) == whole
