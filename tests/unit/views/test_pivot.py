"""How a pivot and other tables are shown: on screen, in a spreadsheet, in a paper."""

from __future__ import annotations

import csv
import io
import json

import pytest

from orchestrator.tables.pivot import Layout, Pivot, pivot
from orchestrator.views.documents import encode
from orchestrator.views.markup import latex, markdown
from orchestrator.views.pivot import (
    mean_and_spread,
    notes,
    pivot_csv,
    pivot_document,
    pivot_table,
)
from orchestrator.views.table import Column, Table, plain_lines
from tests.unit.tables.made_up import job

NASTY = Table(
    columns=[Column(title="a_b"), Column(title="50%", right=True)],
    rows=[["[x] & {y}", "1 ± 2"], ["a|b\\c", "$1 #2 ~ ^"]],
)


def study(*, best: tuple[str, ...] = ()) -> Pivot:
    """Return ranks against learning rates, with a failed job and a combination without jobs."""
    jobs = [
        job(1, 0.50, rank=8, lr=1e-3),
        job(2, 0.52, rank=8, lr=1e-3),
        job(3, None, rank=8, lr=1e-3),
        job(1, None, rank=8, lr=1e-4),
        job(1, 0.75, rank=64, lr=1e-3),
    ]
    columns = () if best else ("lr",)
    layout = Layout(rows=("rank",), columns=columns, metrics=("test.rougeL",), best=best)
    return pivot(jobs, layout)


def test_a_cell_shows_mean_spread_and_n_or_that_it_is_missing() -> None:
    """Nothing done is another thing than nothing submitted."""
    title, first, second = plain_lines(pivot_table(study()))

    assert title.split() == ["rank", "lr=0.0001", "lr=0.001"]
    assert first.split("  ", 1)[1].strip().split("   ")[0].startswith("missing (0 of 1)")
    assert first.endswith("0.510 ± 0.014 (2 of 3)")
    assert second.split() == ["64", "–", "0.75", "(1)"]


def test_a_pivot_too_wide_for_the_screen_is_one_line_a_cell() -> None:
    """A number that the edge of the screen cuts is a wrong number; no cell may get lost."""
    wide = list(plain_lines(pivot_table(study(), width=200)))
    narrow = list(plain_lines(pivot_table(study(), width=40)))

    assert wide == list(plain_lines(pivot_table(study())))
    assert narrow[0].split() == ["rank", "lr"]
    assert [line.split()[:2] for line in narrow[1:]] == [
        ["8", "lr=0.0001"], ["8", "lr=0.001"], ["64", "lr=0.0001"], ["64", "lr=0.001"],
    ]  # fmt: skip
    assert narrow[2].endswith("0.510 ± 0.014 (2 of 3)")


def test_the_notes_say_what_the_numbers_are() -> None:
    """Which spread, over what, and that something is missing."""
    said = "\n".join(notes(study()))

    assert "sample standard deviation (n - 1) over seed" in said
    assert "2 jobs without a value" in said


def test_a_choice_that_may_change_is_marked() -> None:
    """The best learning rate stands in the cell, with a question mark where others are missing."""
    _, first, second = plain_lines(pivot_table(study(best=("lr",))))

    assert first.endswith("(2 of 3; lr=0.001)?")
    assert second.endswith("0.75 (1; lr=0.001)")
    assert any(note.startswith("?") for note in notes(study(best=("lr",))))


@pytest.mark.parametrize(
    ("mean", "std", "shown"),
    [
        (0.51234, 0.0131, "0.512 ± 0.013"),
        (2.0, 0.87, "2.00 ± 0.87"),
        (12345.6, 321.0, "12,346 ± 321"),
        (0.5, 0.0, "0.5 ± 0"),
        (0.51234, None, "0.5123"),
    ],
)
def test_the_spread_says_how_many_places_the_mean_has(
    mean: float, std: float | None, shown: str
) -> None:
    """More would be noise."""
    assert mean_and_spread(mean, std) == shown


def test_csv_has_one_line_a_cell_with_unrounded_numbers() -> None:
    """And an empty mean where all is missing."""
    lines = list(csv.DictReader(io.StringIO(pivot_csv(study()))))

    assert [(line["rank"], line["lr"], line["n"], line["jobs"]) for line in lines] == [
        ("8", "0.0001", "0", "1"), ("8", "0.001", "2", "3"), ("64", "0.001", "1", "1"),
    ]  # fmt: skip
    assert [line["mean"] for line in lines] == ["", "0.51", "0.75"]


def test_the_document_names_the_missing_jobs() -> None:
    """A script can go and look."""
    document = json.loads(encode(pivot_document(study())))

    assert document["schema_version"] == 1
    cell = next(one for one in document["cells"] if one["at"] == {"rank": 8, "lr": 1e-3})
    assert cell["missing"] == [{"id": f"{3:016x}", "state": "FAILED"}]
    assert (cell["n"], cell["jobs"], cell["values"]) == (2, 3, [0.5, 0.52])


def test_latex_escapes_every_special_character() -> None:
    """A name never becomes a command, a comment, a column, or the option of a line break."""
    body = latex(NASTY).splitlines()

    assert body[0] == "\\begin{tabular}{lr}"
    assert body[2] == "a\\_b & 50\\% \\\\"
    assert body[4] == "{}[x] \\& \\{y\\} & 1 $\\pm$ 2 \\\\"
    assert body[5] == (
        "a\\textbar{}b\\textbackslash{}c & \\$1 \\#2 \\textasciitilde{} \\textasciicircum{} \\\\"
    )


def test_markdown_escapes_what_would_end_a_cell_or_be_html() -> None:
    """Each line has as many bars as the title."""
    title, rule, first, second = markdown(NASTY).splitlines()

    assert rule == "| --- | ---: |"
    assert title == "| a\\_b | 50% |"
    assert first == "| \\[x\\] \\& \\{y\\} | 1 ± 2 |"
    assert second == "| a\\|b\\\\c | \\$1 \\#2 \\~ ^ |"
