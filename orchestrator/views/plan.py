"""What a submission would do or did, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jobs.states import JobState
from orchestrator.rows import JobRow, Plan, SubmitReport
from orchestrator.views import text
from orchestrator.views.documents import state_counts
from orchestrator.views.palette import summary_order
from orchestrator.views.table import Cell, Column, Table

PLAN_LIMIT = 50


def plan_line(plan: Plan, rows: Sequence[JobRow] = ()) -> str:
    """Return e.g. `4 jobs: 0 new, 4 unchanged (4 completed)`; `rows` tell the unchanged states."""
    line = f"{text.count(plan.unique_jobs, 'job')}: {plan.new:,} new, {plan.unchanged:,} unchanged"
    if plan.cells != plan.unique_jobs:
        line = f"{text.count(plan.cells, 'cell')}, {line}"
    ours = {spec.id for spec in plan.jobs} - plan.new_ids
    counts = state_counts(row.state for row in rows if row.id in ours)
    return f"{line} ({_states(counts)})" if counts else line


def _states(counts: Mapping[str, int]) -> str:
    return ", ".join(
        f"{counts[state.value]:,} {state.value.lower()}"
        for state in summary_order()
        if counts.get(state.value)
    )


def plan_table(plan: Plan, *, limit: int | None) -> Table:
    """Return the jobs that the matrices name, and whether they are new; at most `limit`."""
    columns = [
        Column(title="ID", keep=True),
        Column(title="JOB"),
        Column(title="", keep=True),
        Column(title="STEPS", right=True, keep=True),
        Column(title="RANKS", right=True, keep=True),
        Column(title="MEMORY", right=True, keep=True),
        Column(title="TIME LIMIT", right=True, keep=True),
    ]
    rows: list[list[Cell | str]] = [
        [
            Cell(text.short_id(spec.id), "dim"),
            text.clean(spec.name),
            Cell("new", "green") if spec.id in plan.new_ids else Cell("unchanged", "dim"),
            str(spec.semantic.total_steps or ""),
            str(spec.semantic.engine.ranks),
            f"{spec.run.resources.memory_gb:g} GB",
            text.duration(60 * spec.run.resources.time_limit_minutes),
        ]
        for spec in plan.jobs[:limit]
    ]
    return Table(columns=columns, rows=rows)


def handed_over_line(report: SubmitReport, scheduler: str) -> str:
    """Return what the scheduler took; empty when there was nothing to hand over."""
    parts = []
    if report.submitted:
        parts.append(f"{text.count(report.submitted, 'job')} handed to {scheduler}")
    if report.waiting:
        parts.append(f"{report.waiting:,} waiting for a place")
    return ", ".join(parts)


def unfinished(rows: Sequence[JobRow]) -> list[JobRow]:
    """Return the jobs without result."""
    return [row for row in rows if row.state is not JobState.COMPLETED]
