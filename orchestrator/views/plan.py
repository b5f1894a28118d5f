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
REMOVED_LIMIT = 5  # names shown


def plan_line(plan: Plan, rows: Sequence[JobRow] = ()) -> str:
    """Return e.g. `4 jobs: 0 new, 4 unchanged (4 completed)`; `rows` tell the unchanged states."""
    line = f"{text.count(plan.unique_jobs, 'job')}: {plan.new:,} new, {plan.unchanged:,} unchanged"
    if plan.cells != plan.unique_jobs:
        line = f"{text.count(plan.cells, 'cell')}, {line}"
    ours = {spec.id for spec in plan.jobs} - plan.new_ids
    counts = state_counts(row.state for row in rows if row.id in ours)
    if counts:
        line = f"{line} ({_states(counts)})"
    if plan.again:
        line += f", {plan.again:,} started again"
    return f"{line}, {len(plan.removed):,} removed" if plan.removed else line


def change_lines(plan: Plan, *, prune: bool) -> list[str]:
    """Return what a submission changes and may cost: + new, − removed, or that it is nothing."""
    if plan.changes_nothing:
        return ["nothing to change: all of this was submitted before"]
    lines = []
    if plan.new:
        lines.append(f"+ {text.count(plan.new, 'job')}: {estimate_words(plan)}")
    if plan.removed:
        states = _states(state_counts(job.state for job in plan.removed))
        fate = "to be cancelled" if prune else "left alone; --prune cancels them"
        lines.append(f"− {text.count(len(plan.removed), 'job')} ({states}) no longer named: {fate}")
        names = [text.clean(job.name) for job in plan.removed[:REMOVED_LIMIT]]
        more = len(plan.removed) - len(names)
        lines.append(f"  {', '.join(names)}{f' and {more:,} more' if more else ''}")
    if plan.kept:
        lines.append(f"  {text.count(plan.kept, 'job')} no longer named, over already: kept")
    return lines


def estimate_words(plan: Plan) -> str:
    """Return the hours that the new jobs may cost, and where the figures come from."""
    cost = plan.estimate
    if cost is None:
        return ""
    gpus = cost.gpu_hours_limit > 0
    unit = "GPU-hours" if gpus else "CPU-hours"
    limit = cost.gpu_hours_limit if gpus else cost.cpu_hours_limit
    words = f"at most {_hours(limit)} {unit} by the time limits of one attempt each"
    measured = cost.gpu_hours_measured if gpus else cost.cpu_hours_measured
    if measured is not None:
        pace = f"at the pace of {text.count(cost.measured_jobs, 'finished job')}"
        words += f"; {_hours(measured)} {pace}"
    return words


def _hours(value: float) -> str:
    """Return an estimate as roughly as it is known."""
    if value < 0.1:
        return "less than 0.1"
    return f"{value:.1f}" if value < 10 else f"{value:,.0f}"


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
