"""What a matrix means: which cells, which jobs, under which names."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from jobs.errors import MatrixInvalid
from jobs.names import check_job_name
from jobs.spec import JobSpec, RehearsalSpec
from tests.unit.jobs.matrices import BASE, cell_names, load, write


def test_a_matrix_without_axes_is_one_job(tmp_path: Path) -> None:
    """Seed 0 is the seed that nobody chose."""
    matrix = load(tmp_path)

    assert (matrix.cells, len(matrix.jobs)) == (1, 1)
    assert matrix.jobs[0].name == "m/seed=0"
    assert matrix.jobs[0].semantic.seed == 0


def test_a_grid_is_every_combination_times_the_seeds(tmp_path: Path) -> None:
    """The order is the file's: the last axis changes first, then the seeds."""
    matrix = load(
        tmp_path, "matrix: {train.lr: [1e-3, 3e-3], method.rank: [4, 8]}\nseeds: [1, 2]\n"
    )

    combinations = [
        (job.semantic.train.lr, job.semantic.method.rank, job.semantic.seed)  # type: ignore[union-attr]
        for job in matrix.jobs
    ]
    assert combinations == list(itertools.product([1e-3, 3e-3], [4, 8], [1, 2]))
    assert cell_names(matrix)[0] == "lr=0.001-rank=4-seed=1"
    assert matrix.cells == 8


def test_seeds_may_be_a_number(tmp_path: Path) -> None:
    """`seeds: 3` means 0, 1, 2."""
    assert [job.semantic.seed for job in load(tmp_path, "seeds: 3\n").jobs] == [0, 1, 2]


def test_zip_goes_row_by_row_and_crosses_with_grid(tmp_path: Path) -> None:
    """Values that belong together stay together."""
    matrix = load(
        tmp_path,
        """
matrix:
  - grid: {train.lr: [1e-3, 1e-4]}
    zip: {method.rank: [4, 8], method.alpha: [8, 16]}
    set: {train.steps: 40}
""",
    )

    methods = {(j.semantic.method.rank, j.semantic.method.alpha) for j in matrix.jobs}  # type: ignore[union-attr]
    assert methods == {(4, 8.0), (8, 16.0)}
    assert matrix.cells == 4
    assert {job.semantic.train.steps for job in matrix.jobs} == {40}
    assert cell_names(matrix)[0] == "lr=0.001-rank=4-alpha=8-seed=0"


def test_exclude_leaves_out_and_when_keeps(tmp_path: Path) -> None:
    """Conditions compare for equality, also with values that nobody wrote (the spec's defaults)."""
    rest = """
matrix:
  - grid: {train.lr: [1e-3, 3e-3], method.rank: [4, 8, 16]}
    exclude:
      - {train.lr: 3e-3, method.rank: [8, 16]}
      - {method.rank: 4, seed: 1}
    when: {engine.zero_stage: 2, seed: [0, 1]}
seeds: 3
"""
    names = cell_names(load(tmp_path, rest))

    assert names == [
        "lr=0.001-rank=4-seed=0",
        "lr=0.001-rank=8-seed=0",
        "lr=0.001-rank=8-seed=1",
        "lr=0.001-rank=16-seed=0",
        "lr=0.001-rank=16-seed=1",
        "lr=0.003-rank=4-seed=0",
    ]


def test_blocks_are_joined_and_named_by_what_differs(tmp_path: Path) -> None:
    """A constant that differs between blocks is part of the name; so is a whole section."""
    rest = """
matrix:
  - grid: {train.lr: [1e-3]}
    set: {method: {name: full}}
  - grid: {train.lr: [1e-3]}
    set: {method: {name: lora, rank: 4}}
"""
    matrix = load(tmp_path, rest)

    assert cell_names(matrix) == ["lr=0.001-method=full-seed=0", "lr=0.001-method=lora-seed=0"]
    assert [job.semantic.method.name for job in matrix.jobs] == ["full", "lora"]


def test_a_section_is_set_before_the_keys_inside_it(tmp_path: Path) -> None:
    """Whatever their order in the file."""
    rest = "matrix: {method.rank: [2, 3], method: [{name: lora, alpha: 4}]}\n"

    ranks = [job.semantic.method.rank for job in load(tmp_path, rest).jobs]  # type: ignore[union-attr]

    assert ranks == [2, 3]


def test_a_block_with_own_seeds_is_not_crossed(tmp_path: Path) -> None:
    """One block may need fewer seeds than the others."""
    rest = """
matrix:
  - grid: {train.lr: [1e-3], seed: [42]}
  - grid: {train.lr: [1e-4]}
seeds: [1, 2, 3]
"""
    assert [job.semantic.seed for job in load(tmp_path, rest).jobs] == [42, 1, 2, 3]


def test_equal_cells_are_one_job(tmp_path: Path) -> None:
    """Cells are counted as written; jobs are distinct, in first-seen order."""
    rest = """
matrix:
  - grid: {train.lr: [1e-3, 3e-3]}
  - grid: {train.lr: [0.001, 1e-4]}
"""
    matrix = load(tmp_path, rest)

    assert (matrix.cells, len(matrix.jobs)) == (4, 3)
    assert [job.semantic.train.lr for job in matrix.jobs] == [1e-3, 3e-3, 1e-4]


def test_run_sections_can_differ_between_cells(tmp_path: Path) -> None:
    """A bigger model may ask for more memory; what runs is not what is computed."""
    rest = """
matrix:
  - set: {model.config.n_embd: 64, resources.memory_gb: 8}
  - set: {model.config.n_embd: 32}
resources: {memory_gb: 2}
"""
    assert [job.run.resources.memory_gb for job in load(tmp_path, rest).jobs] == [8, 2]


def test_the_first_jobs_rehearse(tmp_path: Path) -> None:
    """`rehearsal` names how many; the others are left alone. It is no part of the identity."""
    axes = "matrix: {train.lr: [1e-3, 3e-3, 1e-4]}\n"
    plain = load(tmp_path, axes)
    rehearsed = load(tmp_path, axes + "rehearsal: {at_step: 25, jobs: 2}\n")

    assert [j.run.rehearsal for j in rehearsed.jobs] == [RehearsalSpec(at_step=25)] * 2 + [None]
    assert [j.id for j in rehearsed.jobs] == [j.id for j in plain.jobs]


def test_a_spec_survives_its_file(tmp_path: Path) -> None:
    """spec.json gives back the same job, its id checked against its content."""
    for job in load(tmp_path, "matrix: {train.adam_betas: [[0.9, 0.95]]}\n").jobs:
        assert JobSpec.model_validate_json(job.to_json()) == job


def test_sets_override_what_cells_share(tmp_path: Path) -> None:
    """`--set` reaches defaults and run sections, is typed like YAML, and is part of the digest."""
    plain = load(tmp_path)
    changed = load(tmp_path, sets=("train.steps=40", "save.every_steps=10", "train.lr=5e-5"))

    assert changed.jobs[0].semantic.train.steps == 40
    assert changed.jobs[0].semantic.train.lr == 5e-5
    assert changed.jobs[0].run.save.every_steps == 10
    assert changed.digest != plain.digest
    assert changed.text == plain.text


@pytest.mark.parametrize(
    ("text", "fragment", "fix"),
    [
        ("train.steps", "has no value", "KEY=VALUE"),
        ("train.stepps=4", "names no field", "train.steps"),
        ("steps=4", "names no field", "did you mean `train.steps`?"),
        ("train.steps=many", "must be a whole number", "whole number"),
        ("train.lr=1e-4", "would win", "remove `train.lr`"),
        ("train.steps=*x", "alias", "quote"),
        ("task.content_digest=x", "names no field", "known"),
        ("seed=4", "not shared", "seeds"),
    ],
)
def test_a_wrong_set_is_named(tmp_path: Path, text: str, fragment: str, fix: str) -> None:
    """The problem names the option, not the file."""
    with pytest.raises(MatrixInvalid) as caught:
        load(tmp_path, "matrix: {train.lr: [1e-3]}\n", sets=(text,))

    (problem,) = caught.value.problems
    assert problem.file.startswith("--set ")
    assert fragment in problem.message
    assert fix in problem.fix


def test_names_are_unique_and_allowed(tmp_path: Path) -> None:
    """Values of any shape make a name; names that would be equal get the job's id."""
    rest = """
matrix:
  task.prompt:
    - "A {input}"
    - "A: {input}"
    - "a: {input}"
    - "Ünïcode\\n{input} %A `id` $(x)"
  train.lr: [1e-5, 2.0]
  method.targets: [[c_attn], [c_proj, c_fc]]
"""
    names = [job.name for job in load(tmp_path, rest).jobs]

    assert len({name.lower() for name in names}) == len(names) == 16
    assert all(check_job_name(name) == name for name in names)
    assert "lr=1e-5-targets=c_attn" in names[0]


def test_long_names_are_cut_and_stay_unique(tmp_path: Path) -> None:
    """A name has a limit; the id tells apart what was cut off."""
    prompts = [f'"{"x" * 200}{i} {{input}}"' for i in range(3)]
    rest = "matrix:\n" + "".join(
        f"  {key}: {values}\n"
        for key, values in (
            ("task.prompt", f"[{', '.join(prompts)}]"),
            ("task.input_field", f"[{'y' * 100}]"),
            ("task.output_field", f"[{'z' * 100}]"),
            ("train.lr", "[1e-3]"),
        )
    )
    names = [job.name for job in load(tmp_path, rest).jobs]

    assert len(set(names)) == 3
    assert all(check_job_name(name) for name in names)


def test_fields_of_one_last_word_are_told_apart(tmp_path: Path) -> None:
    """Both would be `dropout`; a `name` or a `path` is called by what it is the name of."""
    rest = """
matrix:
  method.dropout: [0.1]
  model.config.dropout: [0.2]
  method.name: [lora]
  task.path: ["package:quickstart"]
"""
    base = BASE.replace(
        "config: {n_layer: 1, n_embd: 32, n_head: 4}", "architecture: opt, config: {}"
    )
    (name,) = cell_names(load(tmp_path, rest, base=base))

    assert name == "method.dropout=0.1-config.dropout=0.2-method=lora-task=quickstart-seed=0"


def test_renaming_a_matrix_changes_no_job(tmp_path: Path) -> None:
    """Names are for people; the id is what is computed."""
    other = load(tmp_path, base=BASE.replace("name: m\n", "name: other\n"))

    assert other.jobs[0].id == load(tmp_path).jobs[0].id
    assert other.jobs[0].name == "other/seed=0"


def test_ten_thousand_cells_are_loaded_without_repeating_work(tmp_path: Path) -> None:
    """The default limit is usable: files are looked at once, not once a cell."""
    ranks, seeds = list(range(1, 101)), list(range(100))
    path = write(tmp_path, f"matrix: {{method.rank: {ranks}}}\nseeds: {seeds}\n")
    from jobs.matrix import load_matrix

    matrix = load_matrix(path)

    assert len(matrix.jobs) == matrix.cells == 10_000
