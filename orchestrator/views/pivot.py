"""A pivot as a table for people, as CSV for programs, and as a document."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from orchestrator.tables.keys import short_titles
from orchestrator.tables.pivot import Pivot, PivotCell, Place
from orchestrator.views import text
from orchestrator.views.documents import SCHEMA_VERSION, Document
from orchestrator.views.results import csv_value
from orchestrator.views.table import Cell, Column, Table, natural_width

NO_JOB = "–"  # nobody submitted this combination
CAVEAT = "?"  # the best setting was chosen while others of the cell have missing values


def pivot_table(pivot: Pivot, *, width: int | None = None) -> Table:
    """Return the listing: `mean ± std (n)`, or `(n of jobs)` where some have no value.

    Where it is wider than `width`, one line a cell instead: a number that the edge of the
    screen cuts is a wrong number.
    """
    layout = pivot.layout
    heads = [Column(title=title, keep=True) for title in short_titles(layout.rows)]
    wide = [_column_title(place, layout) for place in pivot.columns]
    columns = [*heads, *(Column(title=title, right=True, keep=True) for title in wide)]
    rows: list[list[Cell | str]] = [
        [*map(_shown, row), *(_cell(pivot.cells.get((row, column))) for column in pivot.columns)]
        for row in pivot.rows
    ]
    table = Table(columns=columns, rows=rows)
    if width is None or len(pivot.columns) < 2 or natural_width(table) <= width:
        return table
    long: list[list[Cell | str]] = [
        [*row[: len(heads)], title, cell]
        for row in rows
        for title, cell in zip(wide, row[len(heads) :], strict=True)
    ]
    titles = ", ".join(short_titles(layout.columns))
    return Table(columns=[*heads, Column(title=titles), Column(title="", keep=True)], rows=long)


def _column_title(place: Place, layout: Any) -> str:
    if not place:
        return text.clean(layout.metrics[0])
    titles = short_titles(layout.columns)
    return ", ".join(
        _shown(value) if key == "metric" else f"{title}={_shown(value)}"
        for key, title, value in zip(layout.columns, titles, place, strict=True)
    )


def _shown(value: object) -> str:
    return NO_JOB if value is None else text.axis_value(value)


def _cell(cell: PivotCell | None) -> Cell:
    if cell is None:
        return Cell(NO_JOB, "dim")
    if cell.summary.mean is None:
        return Cell(f"missing (0 of {cell.jobs})", "yellow")
    shown = cell_text(cell)
    return Cell(shown, "yellow" if cell.missing or cell.incomplete else "")


def cell_text(cell: PivotCell) -> str:
    """Return `0.912 ± 0.013 (3)`, with what was chosen and what is missing."""
    summary = cell.summary
    assert summary.mean is not None
    shown = mean_and_spread(summary.mean, summary.std)
    count = f"{summary.n} of {cell.jobs}" if cell.missing else f"{summary.n}"
    titles = short_titles(list(cell.chosen))
    chosen = [f"{t}={_shown(v)}" for t, v in zip(titles, cell.chosen.values(), strict=True)]
    caveat = CAVEAT if cell.incomplete else ""
    return f"{shown} ({'; '.join([count, *chosen])}){caveat}"


def mean_and_spread(mean: float, std: float | None) -> str:
    """Return `0.912 ± 0.013`: the spread with two significant digits, the mean with as many places.

    More of either would be noise. Without a spread, or with none of size, four digits.
    """
    if std is None:
        return text.number(mean)
    places = 1 - math.floor(math.log10(std)) if std > 0 else None
    if places is None or not 0 <= places <= 10:
        return f"{text.number(mean)} ± {text.number(std)}"
    return f"{mean:.{places}f} ± {std:.{places}f}"


def notes(pivot: Pivot) -> Iterator[str]:
    """Yield what must be known to read the table."""
    layout = pivot.layout
    if layout.columns:
        yield f"metric: {', '.join(layout.metrics)}"
    yield f"mean ± sample standard deviation (n - 1) over {', '.join(layout.over)}; in brackets n"
    if layout.best:
        by = layout.by or "the metric itself"
        yield f"best {', '.join(layout.best)} of each cell by the mean of {by}"
    missing = {job.id for cell in pivot.cells.values() for job in cell.missing}
    if missing:
        yield f"{text.count(len(missing), 'job')} without a value: n of jobs says where"
    if any(cell.incomplete for cell in pivot.cells.values()):
        yield f"{CAVEAT}: jobs of other settings have no value yet; the choice may change"


def pivot_csv(pivot: Pivot) -> str:
    """Return one line a cell: the keys, then metric, mean, std, n, jobs and what was chosen."""
    layout = pivot.layout
    keys = [key for key in (*layout.rows, *layout.columns) if key != "metric"]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        [*map(csv_value, keys), "metric", "mean", "std", "n", "jobs"]
        + [csv_value(f"best.{key}") for key in layout.best]
    )
    for place, metric, cell in cells_of(pivot):
        writer.writerow(
            [csv_value(place[key]) for key in keys]
            + [csv_value(metric), csv_value(cell.summary.mean), csv_value(cell.summary.std)]
            + [cell.summary.n, cell.jobs, *(csv_value(cell.chosen.get(k)) for k in layout.best)]
        )
    return out.getvalue()


def cells_of(pivot: Pivot) -> Iterator[tuple[Mapping[str, object], str, PivotCell]]:
    """Yield the place by key, the metric and the cell of each combination that has jobs."""
    layout = pivot.layout
    for row in pivot.rows:
        for column in pivot.columns:
            if (cell := pivot.cells.get((row, column))) is not None:
                keys: Sequence[str] = (*layout.rows, *layout.columns)
                place = dict(zip(keys, (*row, *column), strict=True))
                yield place, str(place.pop("metric", layout.metrics[0])), cell


def pivot_document(pivot: Pivot) -> Document:
    """Return `orch results --rows … --json`."""
    layout = pivot.layout
    return {
        "schema_version": SCHEMA_VERSION,
        "rows": list(layout.rows),
        "columns": list(layout.columns),
        "metrics": list(layout.metrics),
        "over": list(layout.over),
        "cells": [
            {
                "at": dict(place),
                "metric": metric,
                "mean": cell.summary.mean,
                "std": cell.summary.std,
                "n": cell.summary.n,
                "jobs": cell.jobs,
                "values": list(cell.values),
                "missing": [{"id": job.id, "state": job.state.value} for job in cell.missing],
                "best": dict(cell.chosen),
                "candidates": cell.candidates,
                "incomplete": cell.incomplete,
            }
            for place, metric, cell in cells_of(pivot)
        ],
    }
