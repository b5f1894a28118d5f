"""Cells that are commands: what they mean, and what is wrong with them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from jobs.command import as_word, filled
from jobs.errors import MatrixInvalid
from jobs.matrix import Matrix, load_matrix
from jobs.spec import CommandSemantic, JobSpec

BASE = """\
version: 1
name: cmd
defaults:
  command:
    argv: [python, train.py, --lr, "{lr}", "{corpus}", "{{not}}"]
    params: {lr: 1e-3, width: 64}
    inputs: {corpus: data.txt}
    code: [train.py]
"""


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A directory with the command's files."""
    (tmp_path / "train.py").write_text("print(1)\n")
    (tmp_path / "data.txt").write_text("words\n")
    return tmp_path


def load(base: Path, rest: str = "", *, text: str = BASE, sets: tuple[str, ...] = ()) -> Matrix:
    """Write and load a matrix."""
    (base / "m.yaml").write_text(text + rest)
    return load_matrix(base / "m.yaml", sets=sets)


def command(job: JobSpec) -> CommandSemantic:
    """Return what a job runs."""
    assert isinstance(job.semantic, CommandSemantic)
    return job.semantic


def problem(base: Path, text: str) -> str:
    """Return the first problem of a matrix, with its key and fix."""
    with pytest.raises(MatrixInvalid) as caught:
        load(base, text=text)
    first = caught.value.problems[0]
    return f"{first.key}: {first.message}; {first.fix}"


def test_params_are_axes_and_the_command_gets_them_as_words(base: Path) -> None:
    """A param may be named by an axis, by --set and in argv."""
    matrix = load(
        base, "matrix: {command.params.lr: [1e-3, 3e-3]}\n", sets=("command.params.width=8",)
    )

    assert [job.name for job in matrix.jobs] == ["cmd/lr=0.001-seed=0", "cmd/lr=0.003-seed=0"]
    spec = command(matrix.jobs[1]).command
    assert spec.params == {"lr": 3e-3, "width": 8}
    assert filled(spec, {"corpus": "/d/a b"}) == [
        "python", "train.py", "--lr", "0.003", "/d/a b", "{not}",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("value", "word"), [(1e-5, "1e-05"), (True, "true"), (3, "3"), ("a b", "a b"), (1.0, "1.0")]
)
def test_a_param_is_one_word_as_the_matrix_has_it(value: float | str, word: str) -> None:
    """No shell, no rounding."""
    assert as_word(value) == word


def test_a_spec_of_a_command_survives_its_file(base: Path) -> None:
    """spec.json reads back as the same job."""
    job = load(base).jobs[0]

    assert JobSpec.model_validate_json(job.to_json()) == job
    assert job.semantic.code_digest is not None


def test_edited_code_inputs_params_and_argv_make_new_jobs(base: Path) -> None:
    """Each may change the result."""
    ids = {load(base).jobs[0].id}
    ids.add(load(base, text=BASE.replace("width: 64", "width: 65")).jobs[0].id)
    ids.add(load(base, text=BASE.replace("--lr", "--rate")).jobs[0].id)
    (base / "train.py").write_text("print(2)\n")
    ids.add(load(base).jobs[0].id)
    (base / "data.txt").write_text("other words\n")
    ids.add(load(base).jobs[0].id)

    assert len(ids) == 5


def test_how_code_is_named_and_how_it_is_run_is_no_identity(base: Path) -> None:
    """`./train.py` is `train.py`; more memory is the same job."""
    before = load(base).jobs[0].id

    assert (
        load(base, text=BASE.replace("code: [train.py]", "code: [./train.py]")).jobs[0].id == before
    )
    assert load(base, "resources: {memory_gb: 9}\npackages: strict\n").jobs[0].id == before


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("{lr}", "{lrr}", "{lrr} is neither a param nor an input; did you mean `lr`?"),
        ("{lr}", "{lr:.3f}", "a placeholder is a name in braces"),
        ("{lr}", "{", "braces"),
        ("width: 64", "seed: 64", "given by orch"),
        ("width: 64", "a-b: 64", "is no name"),
        ("width: 64", "corpus: 64", "is a param too"),
        ("data.txt", "none.txt", "no such file or directory"),
        ("code: [train.py]", "code: [../train.py]", "beside the matrix file"),
        ("code: [train.py]", "code: [train.py]\n    result: /tmp/x.json", "relative path"),
        ("argv: [python,", "argv: ['',", "is empty; name a program"),
        ("code: [train.py]", "code: [train.py]\n  engine: {zero_stage: 1}", "nothing to a command"),
        ("code: [train.py]", "code: [train.py]\n    input_digests: {}", "unknown key"),
        (
            "code: [train.py]",
            "code: [train.py]\n  train: {steps: 3}",
            "either `command`, or model, method, task and train",
        ),
    ],
)
def test_a_wrong_command_is_told_what_and_how_to_repair_it(
    base: Path, old: str, new: str, said: str
) -> None:
    """Each with the key it is about and a fix."""
    assert old in BASE

    assert said in problem(base, BASE.replace(old, new, 1))


def test_an_unreadable_file_is_a_problem_and_no_crash(base: Path) -> None:
    """A fifo in the code is named."""
    os.mkfifo(base / "pipe")

    assert "pipe" in problem(base, BASE.replace("code: [train.py]", "code: [pipe]"))


def test_code_is_read_once_for_a_thousand_cells(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Expanding must not hash the same files for each cell."""
    from jobs.matrix import checks_command

    calls = []
    real = checks_command.collect
    monkeypatch.setattr(checks_command, "collect", lambda *a: calls.append(a) or real(*a))

    load(base, f"matrix: {{command.params.width: {list(range(200))}}}\n")

    assert len(calls) == 1
