"""A table as Markdown or LaTeX text, to be pasted into a page or a paper."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from orchestrator.views.table import Cell, Table

_LATEX: Mapping[str, str] = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "_": r"\_",
    "%": r"\%",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",  # a straight one is not in every font encoding
    "±": r"$\pm$",
    "–": "--",
}
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>|#~&!$])")


def markdown(table: Table) -> str:
    """Return a pipe table; characters that Markdown or HTML would take for marks are escaped."""
    titles, *rows = _texts(table, lambda value: _MARKDOWN.sub(r"\\\1", value))
    rule = ["---:" if column.right else "---" for column in table.columns]
    return "".join(f"| {' | '.join(line)} |\n" for line in (titles, rule, *rows))


def latex(table: Table) -> str:
    """Return a `tabular` with rules of the package booktabs; every special character escaped.

    A line that begins with `[` is kept from being taken for the option of the line break before.
    """
    titles, *rows = _texts(table, lambda value: "".join(_LATEX.get(c, c) for c in value))
    shape = "".join("r" if column.right else "l" for column in table.columns)
    body = [f"{_guarded(' & '.join(line))} \\\\" for line in rows]
    lines = [
        f"\\begin{{tabular}}{{{shape}}}",
        "\\toprule",
        f"{' & '.join(titles)} \\\\",
        "\\midrule",
        *body,
        "\\bottomrule",
        "\\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def _guarded(line: str) -> str:
    return f"{{}}{line}" if line.lstrip().startswith(("[", "*")) else line


def _texts(table: Table, escape: Callable[[str], str]) -> list[list[str]]:
    rows = [[column.title for column in table.columns]]
    rows += [[cell.text if isinstance(cell, Cell) else cell for cell in row] for row in table.rows]
    return [[escape(value) for value in row] for row in rows]
