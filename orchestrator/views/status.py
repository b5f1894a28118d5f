"""`orch status`: counts for all jobs, rows for those that a person should look at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from jobs.states import TERMINAL, JobState
from orchestrator.rows import JobRow, Watcher
from orchestrator.views import text
from orchestrator.views.palette import STYLES, summary_order
from orchestrator.views.table import Cell, Column, Table

if TYPE_CHECKING:
    from orchestrator.observation import Seen

ROW_LIMIT = 50  # rows on a terminal without --all
FILE_LIMIT = 10_000  # and elsewhere
# Of a huge matrix the store knows heartbeats of the last look but one.
STALE_HEARTBEAT_SECONDS = 180.0
_REPORT_LIMIT = 5
_RUNNING = JobState.RUNNING
_WIDE = 104  # columns from which id, loss and scheduler id have a place


def counts_line(counts: Mapping[str, int]) -> str:
    """Return e.g. `4 jobs: 2 completed, 1 running, 1 queued`."""
    parts = [
        f"{counts[state.value]:,} {state.value.lower()}"
        for state in summary_order()
        if counts.get(state.value)
    ]
    return f"{text.count(sum(counts.values()), 'job')}: {', '.join(parts)}"


def costs_line(preemptions: int, lost_steps: int) -> str:
    """Return what preemption has cost so far; empty when there was none."""
    if not preemptions and not lost_steps:
        return ""
    survived = text.count(preemptions, "preemption")
    return f"{survived} so far, {text.count(lost_steps, 'step')} had to be run again"


def hidden_line(hidden: int, shown: int) -> str:
    """Return the line below a shortened listing; empty when nothing is hidden."""
    if not hidden:
        return ""
    return f"… and {hidden:,} more{'' if shown else ' (none needs attention)'}; --all shows all"


def steps(row: JobRow) -> str:
    """Return `step/total`; a command may say the step alone, or none (`-`)."""
    if row.total_steps:
        return f"{row.step or 0}/{row.total_steps}"
    return str(row.step) if row.step else "-"


def information(row: JobRow) -> str:
    """Return why the job is where it is: the reason, the phase, or a silent heartbeat."""
    if row.state is not _RUNNING:
        return text.clean(row.reason)
    parts = [text.clean(row.reason)] if row.reason else []
    if row.phase and row.phase not in ("training", "running"):  # a command's phase is running
        parts.append(text.clean(row.phase))
    silent = row.heartbeat_age_seconds
    if silent is not None and silent > STALE_HEARTBEAT_SECONDS:
        parts.append(f"no heartbeat for {text.duration(silent)}")
    return "; ".join(parts)


def job_table(rows: Sequence[JobRow], *, width: int | None) -> Table:
    """Return the listing; `width` None means that there is room for every column."""
    wide = width is None or width >= _WIDE
    columns = [
        *([Column(title="ID", keep=True, style="dim")] if wide else []),
        Column(title="JOB"),
        Column(title="STATE", keep=True),
        Column(title="STEP", right=True, keep=True),
        Column(title="ATTEMPTS", keep=True),
        *([Column(title="LOSS", right=True)] if wide else []),
        *([Column(title="SCHEDULER", style="dim")] if wide else []),
        Column(title="INFORMATION", fold=True),
    ]
    cells = _wide_cells if wide else _narrow_cells
    # On a screen the matrix that all names begin with only takes their room.
    skip = 0 if width is None else len(text.shared_prefix(row.name for row in rows))
    return Table(columns=columns, rows=[cells(row, skip) for row in rows])


_STATES = {state: Cell(state.value, style) for state, style in STYLES.items()}


def _narrow_cells(row: JobRow, skip: int) -> tuple[Cell | str, ...]:
    return (
        text.clean(row.name[skip:]),
        _STATES[row.state],
        steps(row),
        text.attempts(row.attempts, row.preemptions),
        information(row),
    )


def _wide_cells(row: JobRow, skip: int) -> tuple[Cell | str, ...]:
    where = f"{row.scheduler} {row.scheduler_id or ''}" if row.scheduler else ""
    return (
        text.short_id(row.id),
        text.clean(row.name[skip:]),
        _STATES[row.state],
        steps(row),
        text.attempts(row.attempts, row.preemptions),
        text.number(row.loss),
        text.clean(where),
        information(row),
    )


def report_lines(rows: Sequence[JobRow], *, jobs: int | None = None) -> list[str]:
    """Return what recovery has to say, e.g. quarantined checkpoints; one line a report.

    `jobs`: how many have reports, where `rows` are only the first of them.
    """
    lines = [
        f"{text.clean(row.name)}: {text.clean(report)}" for row in rows for report in row.reports
    ]
    hidden = len(lines) - _REPORT_LIMIT
    if hidden > 0:
        lines[_REPORT_LIMIT:] = [f"… and {text.count(hidden, 'more report')}; --json shows all"]
    if jobs is not None and (others := jobs - sum(bool(row.reports) for row in rows)) > 0:
        lines.append(f"… and reports of {text.count(others, 'more job')}; --json shows all")
    return lines


def is_open(row: JobRow) -> bool:
    """Return whether the job still needs a watcher."""
    return row.state not in TERMINAL and row.state is not JobState.HELD and not row.stuck


def watcher_line(
    watcher: Watcher, *, open_jobs: int, now: float, leaving: bool = False
) -> tuple[str, str]:
    """Return the line about the watcher and its style; `now` is wall clock seconds.

    `leaving`: tasks have yet to leave the scheduler, and somebody has to look.
    """
    age = "" if watcher.last_tick is None else text.ago(now - watcher.last_tick)
    if watcher.alive:
        who = f"on {text.clean(watcher.host or 'this host')}, pid {watcher.pid}"
        return f"watcher: alive ({who}), last tick {age or 'not yet'}", "dim"
    if open_jobs and (job := watcher.job) is not None and job.live:
        # It waits for its turn, or begins: another watcher would only take its place.
        why = f" ({text.clean(job.reason)})" if job.reason not in ("", "None") else ""
        seen = text.ago(now - job.seen_at)
        task, word = text.clean(job.task), text.clean(job.state)
        style = "yellow" if job.state == "held" else "dim"
        return f"watcher: job {task} is {word}{why}, seen {seen}", style
    state = f"watcher: none is alive{f', last tick {age}' if age else ''}"
    if not open_jobs and leaving:
        return f"{state}; tasks are still leaving. See whether they have: orch status", "yellow"
    if not open_jobs:
        return f"{state}; none is needed", "dim"
    waiting = "needs" if open_jobs == 1 else "need"
    return f"{state}; {text.count(open_jobs, 'job')} {waiting} one. Start it: orch watch", "yellow"


def seen_lines(seen: Sequence[Seen], *, open_jobs: int, now: float) -> Iterator[tuple[str, str]]:
    """Yield when each cluster was last seen, with a style; the embedded scheduler only if silent.

    `now` is wall clock seconds.
    """
    for one in seen:
        if not open_jobs or (one.scheduler == "local" and one.unreachable is None):
            continue
        age = "never seen" if one.taken_at is None else f"seen {text.ago(now - one.taken_at)}"
        if one.unreachable is None:
            yield f"{text.clean(one.scheduler)}: {age}", "dim"
        else:
            why = text.clean(one.unreachable)
            yield f"{text.clean(one.scheduler)}: cannot be asked ({why}); {age}", "yellow"
