"""What follows from other fields of a cell: formulas and tables."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.errors import MatrixInvalid
from jobs.matrix.formulas import MAX_DEPTH, MAX_LENGTH, BadFormula, read_formula
from tests.unit.jobs.matrices import BASE, load

NO_ALPHA = BASE.replace(", alpha: 16", "").replace(", rank: 8", "")
VALUES = {("a",): 7, ("b", "c"): 2.5, ("text",): "x", ("big",): 2**62, ("flag",): True}


def value(text: str) -> object:
    """Return a formula's value where a = 7, b.c = 2.5."""
    return read_formula(text).value(VALUES.get)


def methods(matrix: Any) -> list[tuple[Any, ...]]:
    """Return name, rank and alpha of each job."""
    found = [job.semantic.method for job in matrix.jobs]
    return [(m.name, getattr(m, "rank", None), getattr(m, "alpha", None)) for m in found]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", 7),
        ("text", "x"),
        ("2 * a + 1", 15),
        ("a // 2", 3),
        ("a % 4 - -1", 4),
        ("(a + 1) / b.c", 3.2),
        ("min(a, 3, b.c)", 2.5),
        ("max(1, ceil(b.c))", 3),
        ("round(b.c * a)", 18),
        ("floor(sqrt(a))", 2),
        ("abs(-a)", 7),
        ("1e-3 * a", 0.007),
    ],
)
def test_formulas_are_arithmetic_over_fields(text: str, expected: object) -> None:
    """Whole numbers stay whole unless divided with `/`."""
    found = value(text)

    assert found == pytest.approx(expected) if isinstance(expected, float) else found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a +",
        "a ** 9",
        "a if a else 1",
        "a < 2",
        "[a]",
        "'text'",
        "True",
        "lambda: a",
        "__import__('os').system('true')",
        "open('x')",
        "a.b().c",
        "(a)(b)",
        "max(*a)",
        "max(a, key=a)",
        "min()",
        "sqrt(a, a)",
        "f'{a}'",
        "a := 3",
        "a\nb",
        "1j",
        "(" * 300 + "a" + ")" * 300,
        "-" * 190 + "a",
        "+".join("a" * MAX_LENGTH),
        "-" * MAX_DEPTH + "a",
    ],
)
def test_nothing_else_is_understood(text: str) -> None:
    """No call, no text, no power, no comparison; refused when it is read, never run."""
    with pytest.raises(BadFormula):
        read_formula(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a / (a - 7)", "divides by zero"),
        ("a // 0", "divides by zero"),
        ("unknown + 1", "`unknown` has no value"),
        ("text + 1", "no number"),
        ("flag + 1", "no number"),
        ("big * 4", "too large"),
        ("sqrt(-a)", "has no value in a cell"),
        ("1e300 * 1e300 * a", "too large"),
        ("floor(1e300 * 1e300 * a)", "has no value in a cell"),
    ],
)
def test_a_formula_without_a_value_says_why(text: str, message: str) -> None:
    """Never a wrong number, never infinity."""
    with pytest.raises(BadFormula, match=message):
        value(text)


def expressions() -> st.SearchStrategy[str]:
    """Return formulas over a and numbers."""
    leaves = st.one_of(st.just("a"), st.just("b.c"), st.integers(0, 99).map(str))
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.tuples(inner, st.sampled_from("+-*"), inner).map(
                lambda t: f"({t[0]} {t[1]} {t[2]})"
            ),
            st.tuples(st.sampled_from(["min", "max"]), inner, inner).map(
                lambda t: f"{t[0]}({t[1]}, {t[2]})"
            ),
        ),
        max_leaves=8,
    )


@given(expressions())
def test_a_formula_is_what_python_makes_of_it(text: str) -> None:
    """The reference is Python itself, over names that the test gives it."""
    names = {"a": 7, "b": type("b", (), {"c": 2.5}), "min": min, "max": max}
    expected = eval(compile(ast.parse(text, mode="eval"), "t", "eval"), {"__builtins__": {}}, names)

    if len(text) <= MAX_LENGTH:
        assert value(text) == expected


def test_a_field_follows_from_others_in_each_cell(tmp_path: Path) -> None:
    """alpha = 2 rank; the batch of an evaluation from a table, with what is left over."""
    matrix = load(
        tmp_path,
        """
derive:
  method.alpha: 2 * method.rank
  train.micro_batch: {by: method.rank, table: {4: 1, 8: 4}, otherwise: 2}
  train.warmup_steps: floor(train.steps / 10)
matrix: {method.rank: [4, 8, 16]}
seeds: 2
""",
        base=NO_ALPHA,
    )

    assert methods(matrix)[::2] == [("lora", 4, 8.0), ("lora", 8, 16.0), ("lora", 16, 32.0)]
    trains = [job.semantic.train for job in matrix.jobs]
    assert [(t.micro_batch, t.warmup_steps) for t in trains[::2]] == [(1, 6), (4, 6), (2, 6)]
    assert [job.name for job in matrix.jobs][:2] == ["m/rank=4-seed=0", "m/rank=4-seed=1"]


def test_what_a_cell_gives_itself_stays(tmp_path: Path) -> None:
    """By an axis, `set`, a whole section or --set; a section without the field does not give it."""
    text = """
derive: {method.alpha: {formula: 2 * method.rank, when: {method.name: lora}}}
matrix:
  - grid: {method.rank: [4]}
  - set: {method.rank: 4, method.alpha: 3}
  - grid: {method: [{name: lora, rank: 8}, {name: lora, rank: 8, alpha: 5}, {name: full}]}
"""
    alone = [("lora", 4, 8.0), ("lora", 4, 3.0), ("lora", 8, 16.0), ("lora", 8, 5.0)]

    assert methods(load(tmp_path, text, base=NO_ALPHA)) == [*alone, ("full", None, None)]

    text = "derive: {method.alpha: 2 * method.rank}\nmatrix: {method.rank: [4]}\n"
    matrix = load(tmp_path, text, base=NO_ALPHA, sets=("method.alpha=7",))
    assert methods(matrix) == [("lora", 4, 7.0)]


def test_later_items_see_earlier_ones_and_so_do_conditions(tmp_path: Path) -> None:
    """In the order of the file."""
    matrix = load(
        tmp_path,
        """
derive:
  method.alpha: 2 * method.rank
  train.warmup_steps: method.alpha + 1
matrix:
  - grid: {method.rank: [4, 8]}
    exclude: [{train.warmup_steps: 17}]
""",
        base=NO_ALPHA,
    )

    assert [job.semantic.train.warmup_steps for job in matrix.jobs] == [9]


def test_how_a_value_is_written_makes_no_other_job(tmp_path: Path) -> None:
    """A job is what its fields are, not where they come from."""
    derived = "derive: {method.alpha: 2 * method.rank}\nmatrix: {method.rank: [4, 8]}\n"
    zipped = "matrix:\n  - zip: {method.rank: [4, 8], method.alpha: [8, 16]}\n"

    one, two = (load(tmp_path, text, base=NO_ALPHA).jobs for text in (derived, zipped))

    assert [job.id for job in one] == [job.id for job in two]


def test_a_derived_value_that_does_not_fit_is_wrong_where_it_is_derived(tmp_path: Path) -> None:
    """The line is that of the item."""
    with pytest.raises(MatrixInvalid) as caught:
        load(tmp_path, "derive:\n  train.warmup_steps: train.steps / 7\n")

    (problem,) = caught.value.problems
    assert (problem.line, problem.key) == (9, "derive.train.warmup_steps")
    assert "whole number" in problem.message


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("method.alpha: 2 * method.rang", "`method.rang` names no field"),
        ("method.alpah: 2 * method.rank", "names no field"),
        ("method.alpha: 2", "must be a formula"),
        ("method.alpha: 2 * seed", "nothing follows from it"),
        ("seed: 2 * method.rank", "nothing follows from it"),
        ("train.lr: 2 * method.rank", "is given to all cells as well, on line 7"),
        ("model: {by: method.rank, table: {8: {}}}", "is a whole section"),
        ("method.alpha: {by: method.rank}", "neither a formula nor a table"),
        ("method.alpha: {by: method.rank, table: {4: 1}}", "nothing for `method.rank` 8"),
        ("method.alpha: {by: method.rank, tabel: {4: 1}}", "unknown key `tabel`"),
        ("method.alpha: {formula: method.rank, by: method.rank}", "neither a formula nor a table"),
        ("method.alpha: {formula: method.rank, when: {}}", "must be a mapping"),
        ("train.micro_batch: train.evaluate_every_steps", "has no value"),
        ("method.alpha: method.rank / 0", "divides by zero"),
    ],
)
def test_a_wrong_item_is_named(tmp_path: Path, item: str, message: str) -> None:
    """One problem, with what helps."""
    base = NO_ALPHA.replace("{name: lora", "{name: lora, rank: 8")
    with pytest.raises(MatrixInvalid) as caught:
        load(tmp_path, f"derive:\n  {item}\n", base=base)

    (problem,) = caught.value.problems
    assert message in problem.message
    assert problem.fix
    assert problem.line in (9, 10)
