"""What `orch checkpoints export` writes is loaded by peft and transformers alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.e2e.comparison import bench
from tests.e2e.harness import Bench
from worker import export
from worker.forkserver import ForkServer
from worker.snapshot import mapping_digest

pytestmark = pytest.mark.e2e
IDS = torch.tensor([[5, 17, 33, 80, 9]])


def exported(job: Bench, to: Path, capsys: pytest.CaptureFixture[str], *options: str) -> float:
    """Export; return the largest difference of logits that was found."""
    words = ["--job", str(job.job.path), "--to", str(to), *options]
    assert export.main(words) == 0, capsys.readouterr().err
    return float(json.loads(capsys.readouterr().out.splitlines()[-1])["largest_logit_difference"])


def refused(job: Bench, to: Path, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    """Try to export; return why it was not done."""
    assert export.main(["--job", str(job.job.path), "--to", str(to), *options]) == 1
    assert not to.exists()
    return capsys.readouterr().err


def load_model(directory: Path) -> Any:
    """Load a directory with transformers."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(directory, local_files_only=True).eval()


def test_an_adapter_is_loaded_by_peft_and_is_the_result_s(
    tmp_path: Path, fork_server: ForkServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """Sharded by ZeRO 3 over two ranks, preempted, purged: the tested weights are still there."""
    from peft import PeftModel

    changes = {"engine__ranks": 2, "engine__zero_stage": 3}
    job = bench(tmp_path, "job", fork_server, **changes)
    assert "no result" in refused(job, tmp_path / "early", capsys)
    assert job.attempt(stop_at=5).exit_code == 75
    assert "partitioned" in refused(job, tmp_path / "early", capsys, "--weights", "last")
    job.until_done()
    for path in job.job.checkpoints.glob("step-*"):
        path.rename(tmp_path / path.name)  # as a purge of scratch does

    assert exported(job, tmp_path / "adapter", capsys) == 0.0

    adapter = PeftModel.from_pretrained(
        load_model(tmp_path / "adapter" / "base"), tmp_path / "adapter", is_trainable=True
    )
    trained = {n: p.detach() for n, p in adapter.named_parameters() if p.requires_grad}
    assert mapping_digest(trained) == job.result.weights_digest
    assert exported(job, tmp_path / "merged", capsys, "--merge") < 1e-3
    merged = load_model(tmp_path / "merged")
    with torch.no_grad():
        difference = (merged(IDS).logits - adapter.eval()(IDS).logits).abs().max()
    assert difference < 1e-3
    assert not list((tmp_path / "adapter").rglob("*.bin"))


def test_a_fully_tuned_model_is_loaded_by_transformers(
    tmp_path: Path, fork_server: ForkServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last checkpoint's weights, and its tokenizer; an existing directory is not touched."""
    from transformers import AutoTokenizer

    changes = {"method": {"name": "full"}, "train__select": "last"}
    job = bench(tmp_path, "job", fork_server, **changes)
    job.until_done(limit=1)
    assert not job.job.weights.exists()

    assert exported(job, tmp_path / "model", capsys) == 0.0

    model = load_model(tmp_path / "model")
    assert len(AutoTokenizer.from_pretrained(tmp_path / "model")) == model.config.vocab_size
    words = ["--job", str(job.job.path), "--to", str(tmp_path / "model")]
    assert export.main(words) == 1
    assert "exists already" in capsys.readouterr().err


def test_a_subset_is_exported_as_a_whole_model(
    tmp_path: Path, fork_server: ForkServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """The base's tensors beside the trained ones: transformers loads all, also after a purge."""
    changes = {"method": {"name": "subset", "parameters": 9000}}
    job = bench(tmp_path, "job", fork_server, **changes)
    job.until_done(limit=1)
    for path in job.job.checkpoints.glob("step-*"):
        path.rename(tmp_path / path.name)  # as a purge of scratch does

    assert exported(job, tmp_path / "model", capsys) == 0.0

    written = dict(load_model(tmp_path / "model").named_parameters())
    spec = export.JobSpec.model_validate_json(job.job.spec.read_bytes())
    before, _, _ = export.build(job.job, spec, job.site)
    trained = {n: written[n].detach() for n, p in before.named_parameters() if p.requires_grad}
    assert mapping_digest(trained) == job.result.weights_digest
    frozen = {n: p for n, p in before.named_parameters() if not p.requires_grad}
    assert trained
    assert frozen
    assert all(torch.equal(written[name], p) for name, p in frozen.items())
    assert not list((tmp_path / "model").rglob("*.bin"))
