"""The options of tables and pictures, each described once."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.tables.directions import Better

Rows = Annotated[
    list[str] | None,
    typer.Option("--rows", metavar="KEY", help="Pivot: keys of the rows.", show_default=False),
]
Columns = Annotated[
    list[str] | None,
    typer.Option(
        "--columns", metavar="KEY", help="Pivot: keys of the columns.", show_default=False
    ),
]
Metric = Annotated[
    list[str] | None,
    typer.Option(
        "--metric",
        metavar="NAME",
        help="Pivot: what is averaged, e.g. test.accuracy; `*` matches any characters.",
        show_default=False,
    ),
]
Over = Annotated[
    list[str] | None,
    typer.Option(
        "--over",
        metavar="KEY",
        help="Keys in which repetitions differ; default: seed.",
        show_default=False,
    ),
]
Best = Annotated[
    list[str] | None,
    typer.Option(
        "--best",
        metavar="KEY",
        help="Pivot: show the value of KEY with the best mean.",
        show_default=False,
    ),
]
By = Annotated[
    str | None,
    typer.Option(
        "--by",
        metavar="NAME",
        help="The metric that --best chooses by, e.g. dev.accuracy.",
        show_default=False,
    ),
]
BetterEnd = Annotated[
    Better | None,
    typer.Option(
        "--better", help="Which end of it is better, where its name does not say.",
        show_default=False,
    ),
]  # fmt: skip
Where = Annotated[
    list[str] | None,
    typer.Option(
        "--where",
        metavar="KEY=VALUE",
        help="Only these jobs: KEY=A,B, KEY!=VALUE, KEY<=NUMBER; may be repeated.",
        show_default=False,
    ),
]
FidelityColumns = Annotated[
    bool, typer.Option("--fidelity", help="Also world sizes and hosts of each job's attempts.")
]
Csv = Annotated[
    bool, typer.Option("--csv", help="Print CSV on stdout: every axis and every metric.")
]
Markdown = Annotated[bool, typer.Option("--markdown", help="Print a Markdown table.")]
Latex = Annotated[bool, typer.Option("--latex", help="Print a LaTeX tabular.")]
