"""A plan needs neither the models nor the data; a submission does."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.errors import MatrixInvalid
from jobs.matrix import Matrix, load_matrix

MATRIX = """\
version: 1
name: m
defaults:
  model: {family: decoder, path: org/small}
  method: {name: lora, rank: 8, alpha: 16}
  task: {name: tsv, path: "package:quickstart"}
  train: {steps: 60, global_batch: 8}
matrix:
  model.path: [org/small, models/own]
  task.path: ["package:quickstart", corpus]
seeds: 3
"""
COMMAND = """\
version: 1
name: c
defaults:
  command: {argv: [cat, "{text}"], inputs: {text: book.txt}}
"""


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))


def plan(directory: Path, text: str = MATRIX) -> Matrix:
    """Write and load a matrix for a plan."""
    path = directory / "m.yaml"
    path.write_text(text)
    return load_matrix(path, absent_ok=True)


def missing(matrix: Matrix) -> list[tuple[str | None, int | None, str]]:
    """Return what is missing, and where the file names it."""
    return [(one.absent, one.line, one.key) for one in matrix.missing]


def test_cells_and_jobs_are_counted_and_what_is_missing_is_named_once(tmp_path: Path) -> None:
    """A hub's model, a directory's and a task, each at the line that names it."""
    matrix = plan(tmp_path)

    assert (matrix.cells, len({job.id for job in matrix.jobs})) == (12, 12)
    assert missing(matrix) == [
        ("org/small", 9, "matrix.model.path[0]"),
        ("models/own", 9, "matrix.model.path[1]"),
        ("corpus", 10, "matrix.task.path[1]"),
    ]
    assert all(one.fix for one in matrix.missing)


def test_a_submission_refuses_each_of_them_at_its_line(tmp_path: Path) -> None:
    """The same problems, and no matrix."""
    planned = plan(tmp_path)

    with pytest.raises(MatrixInvalid) as caught:
        load_matrix(planned.path)

    assert set(caught.value.problems) == set(planned.missing)


def test_nothing_is_missing_where_all_is_here_and_the_ids_are_those_of_a_submission(
    tmp_path: Path,
) -> None:
    """A plan is only provisional about what is not here."""
    text = MATRIX.replace("[org/small, models/own]", "[models/own]")
    (tmp_path / "models/own").mkdir(parents=True)
    (tmp_path / "models/own/config.json").write_text("{}")
    (tmp_path / "models/own/model.safetensors").write_bytes(b"x")
    (tmp_path / "corpus").mkdir()
    for split in ("train", "dev", "test"):
        (tmp_path / f"corpus/{split}.tsv").write_text("a\tb\n")

    matrix = plan(tmp_path, text)

    assert matrix.missing == ()
    assert [job.id for job in matrix.jobs] == [job.id for job in load_matrix(matrix.path).jobs]


def test_a_directory_that_lacks_a_split_lacks_data(tmp_path: Path) -> None:
    """A task that is half copied is named by the file that is not there."""
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus/train.tsv").write_text("a\tb\n")

    matrix = plan(tmp_path, MATRIX.replace("[org/small, models/own]", "[org/small]"))

    assert missing(matrix)[1] == ("corpus/dev.tsv", 10, "matrix.task.path[1]")
    assert matrix.cells == 6


def test_an_input_of_a_command_may_be_elsewhere_too(tmp_path: Path) -> None:
    """Inputs are data as tasks are."""
    matrix = plan(tmp_path, COMMAND)

    assert (matrix.cells, missing(matrix)) == (1, [("book.txt", 4, "defaults.command.inputs.text")])


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (("steps: 60", "stepz: 60"), "unknown key"),
        (("rank: 8", "rank: 0"), "rank"),
        (('"package:quickstart", corpus', '"package:quickstar", corpus'), "is shipped"),
    ],
)
def test_what_is_wrong_stays_wrong(tmp_path: Path, edit: tuple[str, str], said: str) -> None:
    """Only absence is forgiven, and what is absent is then no part of the complaint."""
    with pytest.raises(MatrixInvalid) as caught:
        plan(tmp_path, MATRIX.replace(*edit))

    assert all(problem.absent is None for problem in caught.value.problems)
    assert said in str(caught.value)


def test_a_file_that_is_wrong_is_no_absent_one(tmp_path: Path) -> None:
    """Data that are here are judged as ever."""
    (tmp_path / "corpus").mkdir()
    for split in ("train", "dev", "test"):
        (tmp_path / f"corpus/{split}.tsv").write_text("one column\n")

    with pytest.raises(MatrixInvalid, match="1 columns, not 2"):
        plan(tmp_path)
