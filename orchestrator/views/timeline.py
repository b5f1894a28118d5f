"""`orch history`: a job's attempts, one row each."""

from __future__ import annotations

import time
from collections.abc import Sequence

from orchestrator.rows import JobRow
from orchestrator.timeline import AttemptRow
from orchestrator.views import text
from orchestrator.views.documents import SCHEMA_VERSION, Document
from orchestrator.views.table import Cell, Column, Table

_WIDE = 110  # columns from which scheduler id and nodes have a place
_STYLES = {
    "completed": "green",
    "exception": "red",
    "configuration": "red",
    "resume_refused": "red",
    None: "cyan",
}


def timeline_table(attempts: Sequence[AttemptRow], *, width: int | None, now: float) -> Table:
    """Return the table; `width` None means that there is room for every column."""
    wide = width is None or width >= _WIDE
    columns = [
        Column(title="#", right=True, keep=True),
        *([Column(title="ID", style="dim"), Column(title="NODES", style="dim")] if wide else []),
        Column(title="STARTED", keep=True),
        Column(title="RAN", right=True, keep=True),
        Column(title="STEPS", keep=True),
        Column(title="LOST", right=True, keep=True),
        Column(title="END", keep=True),
        Column(title="CAUSE, AND WHAT FOLLOWED", fold=True),
    ]
    return Table(columns=columns, rows=[_cells(a, wide=wide, now=now) for a in attempts])


def _cells(attempt: AttemptRow, *, wide: bool, now: float) -> list[Cell | str]:
    start, end = attempt.started_at, attempt.ended_at
    where = [text.clean(attempt.scheduler_id or "-"), text.clean(attempt.nodes)] if wide else []
    words = _story(attempt)
    return [
        "-" if attempt.epoch is None else str(attempt.epoch),
        *where,
        "never" if start is None else moment(start, now=now),
        "" if start is None else text.duration((end or now) - start),
        _steps(attempt),
        str(attempt.steps_lost or ""),
        Cell(attempt.end_class or "runs", _STYLES.get(attempt.end_class, "yellow")),
        words,
    ]


def _story(attempt: AttemptRow) -> str:
    """Return the cause and what followed, nothing twice."""
    cause = text.clean(attempt.cause)
    state, _, reason = text.clean(attempt.decision).partition(": ")
    if state in ("", "COMPLETED"):
        return cause
    return f"{cause} -> {state}" + (f": {reason}" if reason and cause not in reason else "")


def _steps(attempt: AttemptRow) -> str:
    if attempt.last_step is None:
        return ""
    if attempt.last_step == attempt.first_step:
        return f"at {attempt.first_step}"
    return f"{attempt.first_step}-{attempt.last_step}"


def moment(at: float, *, now: float) -> str:
    """Return a local time as short as it can be: today only hours, minutes and seconds."""
    there, here = time.localtime(at), time.localtime(now)
    same_day = there[:3] == here[:3]
    return time.strftime("%H:%M:%S" if same_day else "%m-%d %H:%M", there)


def summary_line(row: JobRow, attempts: Sequence[AttemptRow]) -> str:
    """Return the line below the table."""
    gained = sum(a.steps_gained for a in attempts)
    lost = sum(a.steps_lost for a in attempts)
    began = sum(a.epoch is not None for a in attempts)
    of = f" of {row.total_steps:,}" if row.total_steps else ""  # a command may not say how many
    return (
        f"{text.clean(row.name)} is {row.state.value}: {text.count(began, 'attempt')},"
        f" {text.count(gained, 'step')}{of} safe, {lost:,} lost on the way"
    )


def history_document(row: JobRow, attempts: Sequence[AttemptRow]) -> Document:
    """Return `orch history --json`."""
    return {
        "schema_version": SCHEMA_VERSION,
        "job": {"id": row.id, "name": row.name, "state": row.state.value},
        "attempts": [_attempt(attempt) for attempt in attempts],
    }


def _attempt(attempt: AttemptRow) -> Document:
    return {
        "epoch": attempt.epoch,
        "scheduler": attempt.scheduler,
        "scheduler_id": attempt.scheduler_id,
        "nodes": attempt.nodes,
        "queued_at": attempt.queued_at,
        "started_at": attempt.started_at,
        "ended_at": attempt.ended_at,
        "first_step": attempt.first_step,
        "last_step": attempt.last_step,
        "committed_step": attempt.committed_step,
        "steps_gained": attempt.steps_gained,
        "steps_lost": attempt.steps_lost,
        "end": attempt.end_class,
        "cause": attempt.cause,
        "decision": attempt.decision,
        "error_type": attempt.error_type,
    }
