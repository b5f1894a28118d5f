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
    matrix = load_matrix(path)

    assert matrix.name == path.stem
    assert matrix.jobs


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
