"""Words for models, and names of jobs by a template."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.errors import MatrixInvalid
from jobs.matrix import Matrix, load_matrix

TEXT = """\
version: 1
name: words
aliases: {{small: owner/a-small-model, big: owner/a-big-model}}
{names}defaults:
  model: {{family: decoder, path: small, tokenizer: {{path: big}}}}
  method: {{name: lora}}
  task: {{name: tsv, path: "package:quickstart"}}
  train: {{steps: 10}}
derive:
  train.micro_batch: {{by: model.path, table: {{small: 4, big: 2}}, otherwise: 1}}
matrix:
  - grid: {{model.path: [small, big, other/model], method.rank: [4, 8]}}
    exclude: [{{model.path: other/model}}]
"""


def load(tmp_path: Path, names: str = "", *, text: str = TEXT) -> Matrix:
    """Return the matrix."""
    path = tmp_path / "words.yaml"
    path.write_text(text.format(names=names))
    return load_matrix(path, absent_ok=True)


def test_words_are_seen_by_people_and_paths_by_jobs(tmp_path: Path) -> None:
    """Conditions, tables and names have the word; the job has what it stands for."""
    jobs = load(tmp_path).jobs

    assert [job.semantic.model.path for job in jobs] == [
        "owner/a-small-model", "owner/a-small-model", "owner/a-big-model", "owner/a-big-model",
    ]  # fmt: skip
    assert [job.semantic.micro_batch for job in jobs] == [4, 4, 2, 2]
    assert {job.semantic.model.tokenizer.path for job in jobs} == {"owner/a-big-model"}
    assert jobs[0].name == "words/model=small-rank=4-seed=0"


def test_a_word_is_no_part_of_an_identity(tmp_path: Path) -> None:
    """With the path itself it is the same job."""
    ids = [job.id for job in load(tmp_path).jobs]
    written = TEXT.replace("small, big,", "owner/a-small-model, big,").replace(
        "table: {{small: 4", "table: {{owner/a-small-model: 4"
    )
    assert [job.id for job in load(tmp_path, text=written).jobs] == ids


def test_a_template_names_jobs(tmp_path: Path) -> None:
    """Missing fields leave nothing; equal names get the job's id."""
    jobs = load(tmp_path, 'job_name: "{model.path}-{method.targets}-r{method.rank}"\n').jobs
    assert [job.name for job in jobs] == [
        "words/small-r4", "words/small-r8", "words/big-r4", "words/big-r8",
    ]  # fmt: skip
    jobs = load(tmp_path, 'job_name: "{model.path}"\n').jobs
    assert jobs[1].name == f"words/small-{jobs[1].id[:8]}"


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ('job_name: "{nothing.here}"\n', "names no field"),
        ('job_name: "{method.rank:3}"\n', "has a format"),
        ('job_name: "{method.rank"\n', "expected '}'"),
        ("job_name: [x]\n", "must be text with fields"),
    ],
)
def test_a_wrong_template_is_refused(tmp_path: Path, names: str, words: str) -> None:
    """With its line."""
    with pytest.raises(MatrixInvalid, match=words) as raised:
        load(tmp_path, names)
    assert "words.yaml:4" in str(raised.value)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("aliases: [x]", "must be a mapping"),
        ("aliases: {{small: 3, big: x}}", "must be a path or hub id"),
        ("aliases: {{small: big, big: x}}", "is itself an alias"),
    ],
)
def test_a_wrong_alias_is_refused(tmp_path: Path, line: str, words: str) -> None:
    """With its line."""
    text = TEXT.replace("aliases: {{small: owner/a-small-model, big: owner/a-big-model}}", line)
    with pytest.raises(MatrixInvalid, match=words):
        load(tmp_path, text=text)
