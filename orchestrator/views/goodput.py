"""`orch status --goodput`: what the jobs' time went into."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.ledger import Ledger, together
from orchestrator.rows import JobRow
from orchestrator.views import text
from orchestrator.views.documents import (
    LEDGER_PARTS,
    SCHEMA_VERSION,
    Document,
    account_fields,
    ledger_fields,
)
from orchestrator.views.table import Cell, Column, Table

Entry = tuple[JobRow, Ledger]


def goodput_table(entries: Sequence[Entry], *, limit: int | None) -> Table:
    """Return a row a job, those that lost most first where not all are shown, and the total."""
    shown = list(entries)
    if limit is not None and len(shown) > limit:
        shown = sorted(shown, key=lambda entry: -entry[1].lost)[:limit]
    skip = len(text.shared_prefix(row.name for row, _ in entries))
    columns = [
        Column(title="JOB"),
        *(Column(title=p.upper(), right=True, keep=True) for p in LEDGER_PARTS),
    ]
    columns.append(Column(title="ETTR", right=True, keep=True))
    rows: list[list[Cell | str]] = [
        [text.clean(row.name[skip:]), *_cells(ledger)] for row, ledger in shown
    ]
    total = together(ledger for _, ledger in entries)
    rows.append([Cell(cell, "bold") for cell in ("all", *_cells(total))])
    return Table(columns=columns, rows=rows)


def _cells(ledger: Ledger) -> list[str]:
    seconds = [getattr(ledger.total, part) for part in LEDGER_PARTS]
    return [*(span(value) for value in seconds), percent(ledger.ettr)]


def span(seconds: float) -> str:
    """Return a length of time in a few characters, e.g. `45s`, `12m`, `3.5h`."""
    if seconds < 0.05:
        return ""
    if seconds < 10:
        return f"{seconds:.1f}s"
    if seconds < 120:
        return f"{seconds:.0f}s"
    return f"{seconds / 60:.0f}m" if seconds < 7200 else f"{seconds / 3600:.1f}h"


def percent(ratio: float | None) -> str:
    """Return a ratio as per cent; `-` for none."""
    return "-" if ratio is None else f"{100 * ratio:.0f}%"


def goodput_line(entries: Sequence[Entry]) -> str:
    """Return what interruptions have cost all jobs."""
    total = together(ledger for _, ledger in entries)
    steps = text.count(total.replayed_steps, "step")
    lost = text.duration(total.lost)
    return f"{steps} run a second time; {lost} lost to restarts and repetitions"


def goodput_document(entries: Sequence[Entry]) -> Document:
    """Return `orch status --goodput --json`."""
    return {
        "schema_version": SCHEMA_VERSION,
        "total": ledger_fields(together(ledger for _, ledger in entries)),
        "jobs": [
            {
                "id": row.id,
                "name": row.name,
                "state": row.state.value,
                **ledger_fields(ledger),
                "attempts": [account_fields(account) for account in ledger.attempts],
            }
            for row, ledger in entries
        ],
    }
