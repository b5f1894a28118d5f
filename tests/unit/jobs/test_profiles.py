"""Other values for the same cells, by a name on the command line; and some cells instead of all."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.errors import MatrixInvalid
from jobs.matrix import Matrix, load_matrix
from tests.unit.jobs.matrices import cell_names, load, write

TEXT = """
derive: {train.warmup_steps: train.steps // 2}
matrix:
  - grid: {method.rank: [4, 8], train.steps: [40, 80]}
seeds: 3
profiles:
  dev: {train.steps: 4, task.max_train_examples: 16, seeds: [7]}
  big: {resources.memory_gb: 40}
"""


def under(directory: Path, profile: str | None, text: str = TEXT, **more: object) -> Matrix:
    """Load a matrix under a profile."""
    return load_matrix(write(directory, text), profile=profile, **more)  # type: ignore[arg-type]


def test_a_profile_wins_over_the_cells(tmp_path: Path) -> None:
    """Over axes, too; formulas see its values; cells that become equal are one job."""
    matrix = under(tmp_path, "dev")

    assert (matrix.name, matrix.cells, len(matrix.jobs)) == ("m-dev", 4, 2)
    trains = [job.semantic.train for job in matrix.jobs]
    assert [(t.steps, t.warmup_steps) for t in trains] == [(4, 2), (4, 2)]
    assert {job.semantic.seed for job in matrix.jobs} == {7}
    assert matrix.jobs[0].semantic.task.max_train_examples == 16
    assert matrix.jobs[0].name == "m-dev/rank=4-steps=4-seed=7"


def test_without_a_profile_it_changes_nothing(tmp_path: Path) -> None:
    """The jobs are those of a file without profiles."""
    plain = load(tmp_path, TEXT.partition("profiles:")[0])

    assert [job.id for job in under(tmp_path, None).jobs] == [job.id for job in plain.jobs]


def test_how_jobs_are_run_is_no_other_experiment(tmp_path: Path) -> None:
    """`big` means the same jobs, in another matrix."""
    plain, big = under(tmp_path, None), under(tmp_path, "big")

    assert [job.id for job in big.jobs] == [job.id for job in plain.jobs]
    assert {job.run.resources.memory_gb for job in big.jobs} == {40}
    assert big.digest != plain.digest


def test_a_set_wins_over_a_profile(tmp_path: Path) -> None:
    """It is the last word of the person at the keyboard."""
    text = TEXT.replace(", train.steps: [40, 80]", "")
    matrix = under(tmp_path, "dev", text, sets=("train.steps=6",))

    assert {job.semantic.train.steps for job in matrix.jobs} == {6}
    assert matrix.jobs[0].semantic.task.max_train_examples == 16


@pytest.mark.parametrize(
    ("profiles", "wanted", "message", "fix"),
    [
        ("{dev: {train.steps: 4}}", "dve", "there is no profile `dve`", "did you mean `dev`?"),
        ("{dev: {train.stepz: 4}}", None, "names no field", "train.steps"),
        ("{dev: {seed: 4}}", None, "all seeds or none", "write `seeds`"),
        ("{dev: {seeds: [1, 1]}}", None, "stands twice", "remove one"),
        ("{dev: {}}", None, "must be a mapping", "train.steps: 4"),
        ("{dev: 4}", None, "must be a mapping", "train.steps: 4"),
        ("[dev]", None, "must be a mapping", "dev"),
        ("{'../x': {train.steps: 4}}", None, "is no name", "64 of A-Z"),
        ("{dev: {train.steps: many}}", "dev", "whole number", ""),
    ],
)
def test_a_wrong_profile_is_named(
    tmp_path: Path, profiles: str, wanted: str | None, message: str, fix: str
) -> None:
    """Also one that nobody asked for."""
    with pytest.raises(MatrixInvalid) as caught:
        under(tmp_path, wanted, f"profiles: {profiles}\n")

    (problem,) = caught.value.problems
    assert message in problem.message
    assert fix in problem.fix
    assert problem.line == 8


def test_a_profile_of_a_file_without_profiles(tmp_path: Path) -> None:
    """Is a mistake that is said."""
    with pytest.raises(MatrixInvalid, match="there is no profile"):
        under(tmp_path, "dev", "")


def test_a_sample_is_some_cells_with_all_their_seeds(tmp_path: Path) -> None:
    """In the order of the file, the same ones for ever; another seed draws others."""
    grid = "grid: {method.rank: [1, 2, 3, 4, 5], train.lr: [1e-3, 2e-3, 3e-3, 4e-3]}"

    def drawn(sample: str) -> list[str]:
        text = f"matrix:\n  - {grid}\n    sample: {sample}\nseeds: 2\n"
        return cell_names(load(tmp_path, text))

    every = cell_names(load(tmp_path, f"matrix:\n  - {grid}\nseeds: 2\n"))
    some = drawn("3")
    assert some == [
        f"rank={rank}-lr={lr}-seed={seed}"
        for rank, lr in ((1, "0.004"), (4, "0.001"), (4, "0.004"))
        for seed in (0, 1)
    ]
    assert some == drawn("{cells: 3, seed: 0}")
    assert some != drawn("{cells: 3, seed: 1}")
    assert [name for name in every if name in some] == some
    assert drawn("20") == drawn("99") == every


@pytest.mark.parametrize("sample", ["0", "true", "{seed: 1}", "{cells: 2, sed: 1}", "some", "[3]"])
def test_a_wrong_sample_is_named(tmp_path: Path, sample: str) -> None:
    """At its line."""
    with pytest.raises(MatrixInvalid) as caught:
        load(tmp_path, f"matrix:\n  - grid: {{method.rank: [4, 8]}}\n    sample: {sample}\n")

    (problem,) = caught.value.problems
    assert problem.line == 10
    assert "sample" in problem.key
