"""`orch results`: one row a job, with the axes in which the jobs differ and the test metrics."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence

from jobs.states import JobState
from orchestrator.rows import ResultRow
from orchestrator.tables.jobs import Fidelity
from orchestrator.tables.keys import short_titles
from orchestrator.views import text
from orchestrator.views.palette import STYLES
from orchestrator.views.table import Cell, Column, Table

_WIDE = 104
_MOST_AXES = 8
_SPREADSHEET_FORMULA = ("=", "+", "-", "@")


def _metric_names(rows: Sequence[ResultRow], split: str) -> list[str]:
    names: dict[str, None] = {}
    for row in rows:
        names.update(dict.fromkeys(row.metrics.get(split, {})))
    return list(names)


def axis_keys(rows: Sequence[ResultRow]) -> list[str]:
    """Return the dotted keys in which the rows differ, in the order of first appearance."""
    keys: dict[str, None] = {}
    for row in rows:
        keys.update(dict.fromkeys(row.axes))
    if len(rows) == 1:
        return list(keys)
    return [key for key in keys if len({repr(row.axes.get(key)) for row in rows}) > 1]


def _shown_keys(rows: Sequence[ResultRow]) -> list[str]:
    """Return the keys that a table has room for.

    Jobs of several methods or families have dozens of keys, each for some of them: then it is
    those that all have, which the names of methods and models are among. CSV has every key.
    """
    keys = axis_keys(rows)
    if len(keys) <= _MOST_AXES:
        return keys
    common = [key for key in keys if all(row.axes.get(key) is not None for row in rows)]
    return common[:_MOST_AXES]


def result_table(
    rows: Sequence[ResultRow], *, width: int | None, ran: Mapping[str, Fidelity] | None = None
) -> Table:
    """Return the listing; `width` None means that there is room for every column.

    `ran`: where the attempts of each job ran, by id, where that is asked for.
    """
    wide = width is None or width >= _WIDE
    keys, metrics = _shown_keys(rows), _metric_names(rows, "test")
    metrics = [name for name in metrics if "." not in name]  # those of groups: CSV and pivots
    titles = short_titles(keys) if width is not None else keys
    named = wide or not keys  # on a narrow terminal the axes say which job it is
    skip = 0 if width is None else len(text.shared_prefix(row.name for row in rows))
    columns = [
        *([Column(title="JOB")] if named else []),
        *(Column(title=title, right=True, keep=True) for title in titles),
        Column(title="STATE", keep=True),
        *(Column(title=f"test {name}", right=True, keep=True) for name in metrics),
        Column(title="EXACT", keep=True),
        Column(title="ATTEMPTS", keep=True),
        *(
            [Column(title=title, fold=True) for title in ("WORLD SIZES", "HOSTS")]
            if ran is not None
            else []
        ),
        *([Column(title="WEIGHTS", keep=True, style="dim")] if wide else []),
    ]
    cells: list[list[Cell | str]] = [
        [
            *([text.clean(row.name[skip:])] if named else []),
            *(text.axis_value(row.axes.get(key)) for key in keys),
            Cell(row.state.value, STYLES[row.state]),
            *(text.number(row.metrics.get("test", {}).get(name)) for name in metrics),
            _exact(row),
            text.attempts(row.attempts, row.preemptions),
            *(map(text.clean, _ran(row, ran)) if ran is not None else []),
            *([text.digest_prefix(row.weights_digest)] if wide else []),
        ]
        for row in rows
    ]
    return Table(columns=columns, rows=cells)


def _ran(row: ResultRow, ran: Mapping[str, Fidelity]) -> tuple[str, str]:
    there = ran[row.id]
    return " ".join(map(str, there.world_sizes)), " ".join(there.hosts)


def _exact(row: ResultRow) -> Cell:
    if row.exact is None:
        return Cell("")
    return Cell("yes", "green") if row.exact else Cell("no", "yellow")


def missing_line(rows: Sequence[ResultRow]) -> str:
    """Return how many jobs have no result yet; empty when all have."""
    missing = sum(row.state is not JobState.COMPLETED for row in rows)
    if not missing:
        return ""
    return f"{text.count(missing, 'job')} of {len(rows):,} without result"


def results_csv(rows: Sequence[ResultRow], ran: Mapping[str, Fidelity] | None = None) -> str:
    """Return the rows as CSV: fixed columns, then axes as dotted keys, then `split.metric`.

    Texts that a spreadsheet would take for a formula get a leading apostrophe.
    """
    keys = axis_keys(rows)
    splits = list(dict.fromkeys(split for row in rows for split in row.metrics))
    measured = [(split, name) for split in splits for name in _metric_names(rows, split)]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        ["id", "name", "state", "attempts", "preemptions", "exact", "weights_digest"]
        + (["world_sizes", "hosts"] if ran is not None else [])
        + [_harmless(key) for key in keys]
        + [_harmless(f"{split}.{name}") for split, name in measured]
    )
    for row in rows:
        writer.writerow(
            [row.id, _harmless(row.name), row.state.value, row.attempts, row.preemptions]
            + ["" if row.exact is None else str(row.exact).lower()]
            + [_harmless(row.weights_digest or "")]
            + ([_harmless(one) for one in _ran(row, ran)] if ran is not None else [])
            + [csv_value(row.axes.get(key)) for key in keys]
            + [csv_value(row.metrics.get(split, {}).get(name)) for split, name in measured]
        )
    return out.getvalue()


def csv_value(value: object) -> object:
    """Return a value as CSV has it; texts that a spreadsheet would compute are defused."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return value
    return _harmless(str(value))


def _harmless(value: str) -> str:
    value = text.clean(value)
    return f"'{value}" if value.startswith(_SPREADSHEET_FORMULA) else value
