"""What is shipped works: examples, data, and the page of architectures."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import jobs
from jobs.catalog import ARCHITECTURES
from jobs.matrix import load_matrix

ROOT = Path(__file__).parents[3]
EXAMPLES = sorted((Path(jobs.__file__).parent / "examples").glob("*.yaml"))
DATA = Path(jobs.__file__).parent / "data" / "quickstart"
PAGE = ROOT / "docs" / "reference" / "architectures.md"


@pytest.mark.parametrize("path", EXAMPLES, ids=[path.stem for path in EXAMPLES])
def test_every_example_is_valid_and_named_like_its_file(path: Path) -> None:
    """People start from an example."""
    matrix = load_matrix(path, absent_ok=True)

    assert matrix.name == path.stem
    assert matrix.jobs
    assert all("--" not in job.name and job.id[:8] not in job.name for job in matrix.jobs)


@pytest.mark.parametrize(
    ("name", "cells"),
    [
        ("peit-grid1", 110),
        ("peit-grid2", 252),
        ("peit-grid3", 36),
        ("apet-pet", 264),
        ("apet-matched", 264),
        ("apet-ft", 66),
        ("apet-ratio", 330),
    ],
)
def test_the_studies_grids_have_their_cells(name: str, cells: int) -> None:
    """With neither models nor data present, each cell a job of its own."""
    matrix = load_matrix(EXAMPLES[0].with_name(f"{name}.yaml"), absent_ok=True)

    assert matrix.cells == len(matrix.jobs) == cells
    assert matrix.missing


def test_what_grids_share_is_one_job() -> None:
    """The same experiment has the same id in whichever matrix it stands."""
    grids = [
        {
            job.id
            for job in load_matrix(
                EXAMPLES[0].with_name(f"peit-grid{number}.yaml"), absent_ok=True
            ).jobs
        }
        for number in (1, 2, 3)
    ]
    one, two, three = grids

    assert [len(one & two), len(two & three), len(one & three)] == [12, 6, 3]
    assert len(one & two & three) == 2
    assert len(one | two | three) == 379


def test_what_follows_from_a_method_is_in_its_jobs() -> None:
    """Alpha, dropout, schedule, warm-up, evaluation batch and engine of the study."""
    jobs = load_matrix(EXAMPLES[0].with_name("peit-grid1.yaml"), absent_ok=True).jobs
    by_method = {job.semantic.method.name: job.semantic for job in jobs}
    lora, full = by_method["lora"], by_method["full"]

    assert (lora.method.rank, lora.method.alpha, lora.train.eval_batch) == (512, 512.0, 2)
    assert (lora.model.dropout, lora.train.weight_decay, lora.engine.zero_stage) == (0.1, 0.01, 2)
    assert (lora.train.schedule, lora.train.warmup_steps) == ("linear", 531)
    assert (full.train.schedule, full.train.warmup_steps) == ("constant", 0)
    assert (full.model.dropout, full.train.weight_decay, full.train.eval_batch) == (0.0, 0.0, 1)
    assert (full.engine.zero_stage, full.engine.offload) == (3, "parameters")
    assert by_method["bitfit"].method.create
    assert full.model.path == "google/t5-xl-lm-adapt"


def test_the_quickstart_is_two_rates_times_two_seeds_with_one_rehearsal() -> None:
    """What the README promises to show."""
    matrix = load_matrix(next(path for path in EXAMPLES if path.stem == "quickstart"))

    assert [job.name for job in matrix.jobs] == [
        f"quickstart/lr={lr}-seed={seed}" for lr in ("0.001", "0.003") for seed in (1, 2)
    ]
    assert [job.run.rehearsal is not None for job in matrix.jobs] == [True, False, False, False]
    assert matrix.jobs[0].semantic.train.evaluate_every_steps == 20


def test_the_data_set_is_what_its_script_writes(tmp_path: Path) -> None:
    """Anybody can make it again, byte by byte."""
    script = ROOT / "scripts" / "make-quickstart-data"
    subprocess.run([sys.executable, str(script), str(tmp_path)], check=True)

    for split in ("train", "dev", "test"):
        name = f"{split}.tsv"
        assert (tmp_path / name).read_bytes() == (DATA / name).read_bytes()


def test_the_data_set_is_balanced_and_its_splits_are_apart() -> None:
    """Above chance must mean: learned."""
    rows = {s: (DATA / f"{s}.tsv").read_text().splitlines() for s in ("train", "dev", "test")}
    inputs = [row.split("\t")[0] for split in rows.values() for row in split]

    assert {split: len(lines) for split, lines in rows.items()} == {
        "train": 256,
        "dev": 64,
        "test": 64,
    }
    assert len(set(inputs)) == len(inputs)
    for lines in rows.values():
        labels = Counter(line.split("\t")[1] for line in lines)
        assert labels["good"] == labels["bad"] == len(lines) // 2


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_every_architecture_is_described(name: str) -> None:
    """The catalog is data; the page repeats it for readers, keys and defaults in order."""
    architecture = ARCHITECTURES[name]
    keys, modules = re.findall(
        rf"^- `{name}`: (.*?)(?=\n- |\n\n|\Z)", PAGE.read_text(), re.M | re.S
    )
    expected = []
    for key, limits in architecture.keys.items():
        flag = isinstance(limits.default, bool)
        default = str(limits.default).lower() if flag else limits.default
        expected.append(key if default is None else f"{key} {default}")

    assert " ".join(keys.split()) == ", ".join(expected)
    every = ", ".join(architecture.linear_modules)
    assert " ".join(modules.split()) == f"{', '.join(architecture.lora_targets)} (of {every})"
