"""A wrong matrix is told where, what and how to repair it, all at once; and nothing happens."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from jobs.errors import MatrixInvalid, Problem
from jobs.matrix import MAX_CELLS, load_matrix
from jobs.yaml_strict import MAX_BYTES, MAX_NODES

CORPUS = Path(__file__).parent / "wrong_matrices"
Expected = tuple[int, int, str, str, str]  # line, column, key, parts of message and of fix


def read_table() -> dict[str, list[Expected]]:
    """Return what each file of the corpus must be told."""
    table: dict[str, list[Expected]] = {}
    for row in (CORPUS / "expected.tsv").read_text().splitlines()[1:]:
        name, line, column, key, message, fix = row.split("\t")
        table.setdefault(name, []).append((int(line), int(column), key, message, fix))
    return table


EXPECTED = read_table()


def problems_of(path: Path) -> tuple[Problem, ...]:
    """Return what is wrong with the matrix at `path`; a valid one fails the test."""
    with pytest.raises(MatrixInvalid) as caught:
        load_matrix(path)
    return caught.value.problems


def agrees(problem: Problem, expected: Expected) -> bool:
    """Tell whether a problem says what the table says."""
    line, column, key, message, fix = expected
    return (
        (problem.line, problem.column, problem.key) == (line, column, key)
        and message in problem.message
        and fix in problem.fix
    )


def test_the_table_and_the_corpus_name_the_same_files() -> None:
    """A file without an expectation, or the reverse, would test nothing."""
    assert {path.stem for path in CORPUS.glob("*.yaml")} == set(EXPECTED)
    assert len(EXPECTED) >= 30


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_each_problem_has_its_line_key_and_fix(name: str, tmp_path: Path) -> None:
    """Every problem of the file is named at its place, none is made up, nothing is written."""
    source = CORPUS / f"{name}.yaml"
    matrix = tmp_path / "inside" / source.name
    matrix.parent.mkdir()
    matrix.write_bytes(source.read_bytes())
    before = sorted(tmp_path.rglob("*"))

    problems = problems_of(matrix)

    assert [p for p, e in zip(problems, EXPECTED[name], strict=True) if not agrees(p, e)] == []
    assert all(problem.file == str(matrix) and problem.fix for problem in problems)
    assert sorted(tmp_path.rglob("*")) == before
    assert matrix.read_bytes() == source.read_bytes()


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_no_message_can_control_a_terminal(name: str) -> None:
    """What a file says is shown, never executed by the terminal that shows it."""
    for problem in problems_of(CORPUS / f"{name}.yaml"):
        assert all(c.isprintable() for c in str(problem).replace("\n", ""))
        assert "\n" not in str(problem)


def test_a_file_beyond_the_size_limit_is_not_parsed(tmp_path: Path) -> None:
    """The limit is in bytes and comes first."""
    path = tmp_path / "large.yaml"
    path.write_text("version: 1\n# " + "x" * MAX_BYTES)

    (problem,) = problems_of(path)

    assert "larger than" in problem.message


def test_a_file_with_too_many_nodes_is_left_at_the_limit(tmp_path: Path) -> None:
    """A list of a hundred thousand values costs no more than the limit."""
    path = tmp_path / "long.yaml"
    path.write_text("version: 1\nname: [" + "1," * (MAX_NODES + 10) + "1]\n")

    (problem,) = problems_of(path)

    assert "nodes" in problem.message
    assert problem.line == 2


def test_a_million_cells_are_counted_not_made(tmp_path: Path) -> None:
    """10^12 cells are refused in the time that it takes to read the file."""
    text = (CORPUS / "too_many_cells.yaml").read_text()
    thousand = str(list(range(1000)))
    axes = "\n".join(f"  {key}: {thousand}" for key in ("train.steps", "train.warmup_steps"))
    path = tmp_path / "huge.yaml"
    path.write_text(
        text.split("matrix:")[0]
        + f"matrix:\n{axes}\n  model.init_seed: {thousand}\n  task.max_length: {thousand}\n"
    )
    started = time.process_time()

    (problem,) = problems_of(path)

    assert f"1,000,000,000,000 cells, the limit is {MAX_CELLS:,}" in problem.message
    assert time.process_time() - started < 5  # expanding would take days


def test_max_cells_allows_what_it_names(tmp_path: Path) -> None:
    """The limit is a guard against slips; who means it writes it down."""
    text = (CORPUS / "too_many_cells.yaml").read_text()
    small = text.split("matrix:")[0] + "matrix: {train.lr: [1e-3, 2e-3, 3e-3]}\nmax_cells: %d\n"
    path = tmp_path / "m.yaml"
    path.write_text(small % 2)
    (problem,) = problems_of(path)
    path.write_text(small % 3)

    assert "max_cells: 3" in problem.fix
    assert load_matrix(path).cells == 3


def test_a_missing_file_is_an_oserror(tmp_path: Path) -> None:
    """The command line has its own words for files that cannot be read."""
    with pytest.raises(FileNotFoundError):
        load_matrix(tmp_path / "none.yaml")
