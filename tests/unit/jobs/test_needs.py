"""`needs:` in a matrix: who waits for whom; what is wrong is told with line and fix."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.errors import MatrixInvalid, Problem
from jobs.matrix.needs import Need, find_cycle
from tests.unit.jobs.matrices import load

TWO_BLOCKS = """
matrix:
  - name: pretrain
    set: {train.steps: 40}
  - name: tune
    needs: [%s]
    grid: {train.lr: [1e-3, 3e-3]}
seeds: [1, 2]
"""


def named(tmp_path: Path, needs: str) -> list[tuple[str, set[str], set[str]]]:
    """Return each need with the names of its jobs and of those that it waits for."""
    matrix = load(tmp_path, TWO_BLOCKS % needs)
    names = {job.id: job.name.partition("/")[2] for job in matrix.jobs}
    return [
        (need.name, {names[job] for job in need.jobs}, {names[job] for job in need.of})
        for need in matrix.needs
    ]


TUNE = {
    "steps=60-lr=0.001-seed=1", "steps=60-lr=0.001-seed=2",
    "steps=60-lr=0.003-seed=1", "steps=60-lr=0.003-seed=2",
}  # fmt: skip


def test_a_block_waits_for_all_jobs_of_another(tmp_path: Path) -> None:
    """One need for all, not a pair for each two."""
    ((name, jobs, of),) = named(tmp_path, "pretrain")

    assert name == "pretrain"
    assert len(jobs) == 4
    assert len(of) == 2
    assert not jobs & of


def test_same_compares_the_cells(tmp_path: Path) -> None:
    """Each seed waits for its own seed only."""
    needs = named(tmp_path, "{block: pretrain, same: [seed]}")

    assert [name for name, _, _ in needs] == ["pretrain (seed=1)", "pretrain (seed=2)"]
    for seed, (_, jobs, of) in enumerate(needs, start=1):
        assert {name[-6:] for name in jobs | of} == {f"seed={seed}"}
        assert (len(jobs), len(of)) == (2, 1)


def test_cells_are_selected_wherever_they_stand(tmp_path: Path) -> None:
    """A condition as in `when`."""
    ((_, jobs, of),) = named(tmp_path, "{cells: {train.steps: 40, seed: 2}}")

    assert len(jobs) == 4
    assert len(of) == 1


def test_another_matrix_is_found_out_later(tmp_path: Path) -> None:
    """The loader knows no database."""
    matrix = load(tmp_path, "needs: [{matrix: pre}]\nseeds: 3\n")

    (need,) = matrix.needs
    assert (need.matrix, need.of) == ("pre", ())
    assert need.jobs == tuple(job.id for job in matrix.jobs)


def test_needs_change_no_identity(tmp_path: Path) -> None:
    """Nor do priority, names of blocks and limits."""
    plain = load(tmp_path, "matrix: [{set: {train.steps: 40}}]\n")
    rich = load(
        tmp_path,
        "matrix: [{name: a, set: {train.steps: 40, priority: 7}, needs: [{matrix: pre}]}]\n"
        "priority: 3\nmax_in_flight: 4\n",
    )

    assert [job.id for job in plain.jobs] == [job.id for job in rich.jobs]
    assert [job.run.priority for job in rich.jobs] == [7]
    assert rich.max_in_flight == 4


@pytest.mark.parametrize(
    ("needs", "message", "fix"),
    [
        ("pretrian", "no block of this file is called `pretrian`", "did you mean `pretrain`?"),
        ("tune", "some of these jobs need themselves, as jobs of tune", "remove one"),
        ("{block: pretrain, same: [train.lr]}", "pretrain has no cell with train.lr 0.003", "same"),
        ("{cells: {train.steps: 7}}", "matches no cell", "correct the values"),
        ("{matrix: m}", "a matrix cannot need itself", "name a block"),
        ("{matrix: x, same: [seed]}", "`same` compares cells of one matrix", "remove it"),
        ("{block: pretrain, matrix: x}", "must have exactly one of", "block's name"),
        ("{blok: pretrain}", "unknown key `blok`", "did you mean `block`?"),
        ("[pretrain]", "names nothing", "block's name"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(
    tmp_path: Path, needs: str, message: str, fix: str
) -> None:
    """Line 13 is the line of `needs:`."""
    with pytest.raises(MatrixInvalid) as caught:
        load(tmp_path, TWO_BLOCKS % needs)

    problem = caught.value.problems[0]
    assert (problem.line, problem.key[:15]) == (13, "matrix[1].needs")
    assert message in problem.message
    assert fix in problem.fix


def test_blocks_that_need_each_other_are_refused(tmp_path: Path) -> None:
    """Neither could ever begin."""
    text = """
matrix:
  - {name: a, set: {train.steps: 40}, needs: [b]}
  - {name: b, set: {train.steps: 50}, needs: [a]}
"""
    with pytest.raises(MatrixInvalid, match="a cycle: b -> a -> b"):
        load(tmp_path, text)


def test_two_blocks_of_one_name_are_refused(tmp_path: Path) -> None:
    """`needs` could not tell them apart."""
    text = """
matrix:
  - {name: a, set: {train.steps: 40}}
  - {name: a, set: {train.steps: 50}}
"""
    with pytest.raises(MatrixInvalid, match="a block of this name stands on line 10"):
        load(tmp_path, text)


def test_only_other_matrices_may_be_needed_by_all_cells(tmp_path: Path) -> None:
    """A block that all cells need would need itself."""
    with pytest.raises(MatrixInvalid, match="what is needed is another matrix"):
        load(tmp_path, "needs: [a]\nmatrix: [{name: a, set: {train.steps: 4}}]\n")


PLACE = Problem(file="f", line=1, column=1, key="", message="", fix="")
JOBS = st.sets(st.sampled_from("abcdef"), min_size=1, max_size=3).map(lambda s: tuple(sorted(s)))


@given(st.lists(st.builds(Need, name=st.just("n"), jobs=JOBS, of=JOBS, place=st.just(PLACE))))
def test_a_cycle_is_found_exactly_when_some_job_could_never_begin(needs: list[Need]) -> None:
    """Played through: results appear as long as somebody may begin."""
    done: set[str] = set()
    grew = True
    while grew:
        may = {
            job
            for job in "abcdef"
            if all(set(need.of) <= done for need in needs if job in need.jobs)
        }
        grew, done = may > done, done | may

    cycle = find_cycle(needs)
    assert bool(cycle) == (done != set("abcdef"))
    for need, following in zip(cycle, [*cycle[1:], *cycle[:1]], strict=True):
        assert set(need.of) & set(following.jobs)
