"""What checkpoints will need is said before there is one."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from jobs.contract.records import WorkerSite
from jobs.spec import JobSpec, Run, Semantic, job_id
from orchestrator.checkpoint_space import CheckpointSpace, predict, size_words

CONFIG = {"n_layer": 2, "n_embd": 64, "n_head": 4, "n_positions": 64}


def spec(*, model: dict[str, object] | None = None, keep: int = 2, seed: int = 1) -> JobSpec:
    """Return a job with LoRA on a small model."""
    semantic = Semantic.model_validate(
        {
            "model": model or {"family": "decoder", "architecture": "gpt2", "config": CONFIG},
            "method": {"name": "lora", "rank": 8, "targets": ("c_attn",)},
            "task": {"name": "tsv", "path": "package:quickstart"},
            "train": {"steps": 60, "global_batch": 8},
            "engine": {"ranks": 1},
            "seed": seed,
        }
    )
    run = Run.model_validate({"save": {"keep": keep}})
    return JobSpec(id=job_id(semantic), name="job", semantic=semantic, run=run)


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every file system has a million bytes free; return which directories were asked about."""
    asked: list[str] = []

    def usage(path: Path) -> SimpleNamespace:
        asked.append(str(path))
        return SimpleNamespace(free=1_000_000)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    return asked


def test_all_jobs_at_their_peak(tmp_path: Path, free: list[str]) -> None:
    """Kept ones and one that is written, of each job, against what is free where they go."""
    few = predict([spec()], site=WorkerSite(), home=tmp_path / "not" / "there")
    many = predict([spec(keep=4), spec(seed=2)], site=WorkerSite(), home=tmp_path)

    assert few is not None
    assert many is not None
    assert few.total == 3 * few.largest
    assert many.total == (5 + 3) * few.largest
    assert (few.free, few.place) == (1_000_000, str(tmp_path))
    scratch = WorkerSite(scratch_root=str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    predict([spec()], site=scratch, home=tmp_path / "home")
    assert free[-1] == str(tmp_path / "scratch")


def test_what_is_scarce_says_both_figures() -> None:
    """The line names what is needed, what is free and where."""
    space = CheckpointSpace(
        jobs=3, unknown=2, largest=5 << 20, total=45 << 20, free=40 << 20, place="/scratch"
    )
    assert space.scarce
    assert not dataclasses.replace(space, free=45 << 20).scarce
    assert space.words() == (
        "checkpoints: at most 5.0 MiB each, 45 MiB for all of 3 jobs; 40 MiB are free at /scratch"
        " (2 jobs cannot be told)"
    )


def test_what_cannot_be_told_is_not_guessed(tmp_path: Path, free: list[str]) -> None:
    """A model that is not here: nothing alone, and counted among others."""
    absent = spec(model={"family": "decoder", "path": "no/such-model-here"})
    assert predict([absent], site=WorkerSite(), home=tmp_path) is None
    assert predict([], site=WorkerSite(), home=tmp_path) is None
    both = predict([absent, spec()], site=WorkerSite(), home=tmp_path)
    assert both is not None
    assert (both.jobs, both.unknown) == (1, 1)


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (20 << 20, "20 MiB"), (3 << 40, "3.0 TiB")],
)
def test_sizes_are_as_rough_as_they_matter(count: int, words: str) -> None:
    """Two digits at least."""
    assert size_words(count) == words
