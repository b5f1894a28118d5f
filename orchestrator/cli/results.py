"""`orch results`."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.cli import streams
from orchestrator.cli.catching_up import catch_up, is_stale
from orchestrator.cli.exits import Exit, Stop
from orchestrator.cli.options import Json, Selector
from orchestrator.cli.pivoting import Asked, asked_pivot
from orchestrator.cli.session import (
    has_state,
    open_reading,
    require_state,
    say_empty,
    state_home,
)
from orchestrator.cli.table_options import (
    Best,
    BetterEnd,
    By,
    Columns,
    Csv,
    FidelityColumns,
    Latex,
    Markdown,
    Metric,
    Over,
    Rows,
    Where,
)

if TYPE_CHECKING:
    from orchestrator.reader import Reader
    from orchestrator.rows import ResultRow
    from orchestrator.tables.jobs import Fidelity, TableJob
    from orchestrator.tables.pivot import Pivot
    from orchestrator.views.table import Table


def results(
    selector: Selector = None,
    *,
    rows: Rows = None,
    columns: Columns = None,
    metric: Metric = None,
    over: Over = None,
    best: Best = None,
    by: By = None,
    better: BetterEnd = None,
    where: Where = None,
    fidelity: FidelityColumns = False,
    as_json: Json = False,
    as_csv: Csv = False,
    as_markdown: Markdown = False,
    as_latex: Latex = False,
) -> None:
    """Show the evaluated results, one row a job, or (with --rows) their means as a pivot.

    Examples:
      orch results quickstart --csv > quickstart.csv
      orch results --rows method.name --columns train.lr --metric test.accuracy
      orch results --rows rank --metric test.rougeL --best lr --by dev.rougeL --latex
    """
    form = _form(json=as_json, csv=as_csv, markdown=as_markdown, latex=as_latex)
    asked = Asked(
        rows=rows, columns=columns, metric=metric, over=over, best=best, by=by, better=better
    )
    if asked.given and fidelity:
        raise Stop(
            Exit.USAGE,
            "--fidelity is about single jobs",
            fix="leave it out, or average a number: --metric attempts,preemptions",
        )
    home = state_home()
    if selector is not None:
        require_state(home, selector)
    found = has_state(home)
    if found:
        reader = _reader(home)
        _show(
            reader,
            reader.results(selector),
            where=where,
            form=form,
            asked=asked if asked.given else None,
            fidelity=fidelity,
        )
    else:
        if asked.given and form == "json":
            from orchestrator.views.documents import SCHEMA_VERSION

            streams.show_document({"schema_version": SCHEMA_VERSION, "cells": []})
        elif not asked.given:
            _show_rows([], form, None)
        say_empty(home)


def _form(**wanted: bool) -> str:
    """Return the one form that is wanted; `table` where none is."""
    named = [name for name, is_wanted in wanted.items() if is_wanted]
    if len(named) > 1:
        options = " and ".join(f"--{name}" for name in named)
        raise Stop(Exit.USAGE, f"{options} exclude each other", fix="give one of them")
    return named[0] if named else "table"


def _reader(home: Path) -> Reader:
    reader = open_reading(home)
    if is_stale(reader.watcher(), now=time.time()):
        catching = catch_up(home, unsettled=reader.unsettled())
        if catching is not None:
            catching.done()
    return reader


def _show(
    reader: Reader,
    rows: Sequence[ResultRow],
    *,
    where: Sequence[str] | None,
    form: str,
    asked: Asked | None,
    fidelity: bool,
) -> None:
    about_where = any(name in word for word in where or () for name in ("hosts", "world_sizes"))
    ran = reader.fidelity(rows) if fidelity or about_where else None
    if where or asked:
        from orchestrator.cli.selecting import filtered
        from orchestrator.tables.jobs import table_jobs

        rows, jobs = filtered(rows, table_jobs(rows, ran), where)
        if not jobs:
            raise Stop(Exit.NOT_FOUND, "no job matches", fix="orch results lists what there is")
        if asked:
            _show_pivot(jobs, asked, form)
            return
    _show_rows(rows, form, ran if fidelity else None)


def _show_pivot(jobs: Sequence[TableJob], asked: Asked, form: str) -> None:
    from orchestrator.views import pivot as view

    pivot: Pivot = asked_pivot(jobs, asked)
    if form == "json":
        streams.show_document(view.pivot_document(pivot))
    elif form == "csv":
        sys.stdout.write(view.pivot_csv(pivot))
    else:
        width = streams.table_width(streams.out()) if form == "table" else None
        _show_markup(view.pivot_table(pivot, width=width), form)
        for note in view.notes(pivot):
            streams.say(note, "dim")


def _show_rows(rows: Sequence[ResultRow], form: str, ran: Mapping[str, Fidelity] | None) -> None:
    from orchestrator.views.results import result_table, results_csv

    if form == "json":
        from orchestrator.views.documents import results_document

        streams.show_document(results_document(rows, ran))
    elif form == "csv":
        sys.stdout.write(results_csv(rows, ran))
    elif form != "table":
        _show_markup(result_table(rows, width=None, ran=ran), form)
    elif rows:
        show_results(rows, ran)


def _show_markup(table: Table, form: str) -> None:
    if form == "table":
        streams.show_table(table)
        return
    from orchestrator.views import markup

    sys.stdout.write(markup.latex(table) if form == "latex" else markup.markdown(table))


def show_results(rows: Sequence[ResultRow], ran: Mapping[str, Fidelity] | None = None) -> None:
    """Print the table of results and what to do next."""
    from jobs.states import JobState
    from orchestrator.views.results import missing_line, result_table

    streams.show_table(result_table(rows, width=streams.table_width(streams.out()), ran=ran))
    if missing := missing_line(rows):
        streams.say(missing, "yellow")
        streams.hint("orch status", "see why")
    elif all(row.state is JobState.COMPLETED for row in rows):
        streams.hint("orch results --csv", "all splits, for a spreadsheet or pandas")
