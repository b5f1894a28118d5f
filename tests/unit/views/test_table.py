"""A table must be complete in a pipe and must fit on a terminal."""

from __future__ import annotations

import io

from rich.console import Console

from orchestrator.views.table import Cell, Column, Table, plain_lines, print_table

TABLE = Table(
    columns=[
        Column(title="JOB"),
        Column(title="STEP", right=True, keep=True),
        Column(title="INFORMATION", fold=True),
    ],
    rows=[
        ["a-rather-long-name-of-a-job-0001", "7/60", Cell("[red]waiting[/red]", "dim")],
        ["b", "60/60", "x" * 90],
    ],
)


def printed(*, terminal: bool, width: int = 60) -> str:
    """Return what a terminal of this width, or a pipe, gets."""
    stream = io.StringIO()
    console = Console(
        file=stream, force_terminal=True, width=width, color_system=None, markup=False
    )
    print_table(console if terminal else None, stream, TABLE)
    return stream.getvalue()


def test_plain_lines_are_aligned_and_never_cut() -> None:
    """grep and awk must find whole values; numbers are right-aligned, no line ends in blanks."""
    lines = list(plain_lines(TABLE))

    assert lines[1].startswith("a-rather-long-name-of-a-job-0001   7/60  [red]waiting[/red]")
    assert lines[2].startswith("b                                 60/60  xxx")
    assert all(line == line.rstrip() for line in lines)
    assert "x" * 90 in lines[2]


def test_without_a_terminal_the_plain_form_is_printed() -> None:
    """A pipe must get one line a row, without box characters."""
    assert printed(terminal=False).splitlines() == list(plain_lines(TABLE))


def test_on_a_terminal_no_line_is_wider_than_the_screen() -> None:
    """Free text wraps, names are shortened, and what must be kept is whole."""
    shown = printed(terminal=True, width=60)

    assert max(map(len, shown.splitlines())) <= 60
    assert "7/60" in shown
    assert "60/60" in shown


def test_markup_in_a_cell_is_shown_and_not_obeyed() -> None:
    """A job named "[red]" must be shown as that."""
    assert "[red]waiting[/red]" in printed(terminal=True, width=120)


def test_an_empty_table_still_has_its_titles() -> None:
    """No rows must not break the measuring of columns."""
    assert list(plain_lines(Table(columns=TABLE.columns))) == ["JOB  STEP  INFORMATION"]
