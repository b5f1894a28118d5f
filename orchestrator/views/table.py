"""One table, two ways to print it: by rich on a terminal, as aligned plain text elsewhere.

The plain way neither cuts nor wraps (its reader is grep or awk) and prints 10,000 rows in
milliseconds. Cells are texts, never rich markup: a job named "[red]" is shown as that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TextIO

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table as RichTable

_GAP = "  "


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column: its title, and what happens when the terminal is too narrow."""

    title: str
    right: bool = False  # numbers
    fold: bool = False  # free text: may wrap; all others stay on one line
    keep: bool = False  # never shortened
    style: str = ""  # of cells that are plain texts


@dataclass(frozen=True, slots=True)
class Cell:
    """A text with a style (a rich style name, used on terminals only)."""

    text: str
    style: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Columns and rows of equal length."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell | str]] = field(default_factory=tuple)


def plain_lines(table: Table) -> Iterator[str]:
    """Yield the table as aligned text, title line first, without trailing blanks."""
    rows = [[column.title for column in table.columns]]
    rows += [[cell.text if isinstance(cell, Cell) else cell for cell in row] for row in table.rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    shapes = [
        f"{{:{'>' if column.right else '<'}{width}}}"
        for column, width in zip(table.columns, widths, strict=True)
    ]
    line = _GAP.join(shapes).format
    for row in rows:
        yield line(*row).rstrip()


def rich_table(table: Table) -> RichTable:
    """Return the table for a terminal."""
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    drawn = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    for column in table.columns:
        overflow: Literal["fold", "ellipsis"] = "fold" if column.fold else "ellipsis"
        drawn.add_column(
            column.title,
            style=column.style,
            justify="right" if column.right else "left",
            no_wrap=not column.fold,
            overflow=overflow,
            min_width=_least_width(table, column),
        )
    for row in table.rows:
        cells = [cell if isinstance(cell, Cell) else Cell(cell) for cell in row]
        drawn.add_row(*(Text(cell.text, style=cell.style) for cell in cells))
    return drawn


def natural_width(table: Table) -> int:
    """Return how many columns of a terminal the table takes uncut."""
    return max(map(len, plain_lines(table))) + len(_GAP) * len(table.columns)


def _least_width(table: Table, column: Column) -> int | None:
    if not column.keep:
        return None
    place = list(table.columns).index(column)
    cells = (row[place] for row in table.rows)
    return max(
        [len(column.title), *(len(cell if isinstance(cell, str) else cell.text) for cell in cells)]
    )


def print_table(console: Console | None, stream: TextIO, table: Table) -> None:
    """Print the table on the terminal behind `console`, or (None) as plain text on `stream`."""
    if console is not None:
        console.print(rich_table(table))
    else:
        stream.write("\n".join(plain_lines(table)) + "\n")
