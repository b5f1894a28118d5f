"""The live view: one bar a job on a terminal, one line a change elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from jobs.states import JobState
from orchestrator.rows import JobRow, Watcher
from orchestrator.views import text
from orchestrator.views.changes import change_lines
from orchestrator.views.documents import state_counts
from orchestrator.views.pace import Pace, pace_line
from orchestrator.views.palette import ATTENTION, STYLES
from orchestrator.views.status import (
    STALE_HEARTBEAT_SECONDS,
    counts_line,
    information,
    is_open,
    report_lines,
    steps,
    watcher_line,
)

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_SUMMARY_SECONDS = 60.0  # without a terminal: a sign of life at least this often
_UNWATCHED_SECONDS = 15.0  # a watcher that was just started needs some
_FRAME_LINES = 9  # summary, watcher, reports and margins around the bars
_BAR_WIDTH = 20
_NARROW_BAR_WIDTH = 6
_NARROW = 100


class ProgressView(Protocol):
    """Shows rows as they change; a context manager so that a terminal is always put back."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def update(self, rows: Sequence[JobRow], watcher: Watcher) -> None:
        """Show a new look."""
        ...


class ChangeLog:
    """One line a change, and a summary line a minute."""

    def __init__(
        self, say: Callable[[str], None], *, wall: Callable[[], float] = time.time
    ) -> None:
        self._say = say
        self._wall = wall
        self._pace = Pace()
        self._before: dict[str, JobRow] = {}
        self._spoke_at: float | None = None
        self._first_look = True
        self._watched_at: float | None = None  # None: the absence has been said

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None

    def update(self, rows: Sequence[JobRow], watcher: Watcher) -> None:
        """Say what changed since the last look."""
        now = self._wall()
        self._pace.observe(rows, now=now)
        for line in change_lines(self._before, rows, now=now):
            self._say(line)
            self._spoke_at = now
        self._before = {row.id: row for row in rows}
        self._say_unwatched(rows, watcher, now)
        if self._spoke_at is None or now - self._spoke_at >= _SUMMARY_SECONDS:
            stamp = time.strftime("%H:%M:%S", time.localtime(now))
            self._say(f"{stamp} {pace_line(rows, self._pace)}")
            self._spoke_at = now

    def _say_unwatched(self, rows: Sequence[JobRow], watcher: Watcher, now: float) -> None:
        """Say, once and not at the first look, that nobody moves the jobs."""
        open_jobs = sum(map(is_open, rows))
        if watcher.alive or not open_jobs or self._first_look:
            self._watched_at, self._first_look = now, False
        elif self._watched_at is not None and now - self._watched_at >= _UNWATCHED_SECONDS:
            self._say(watcher_line(watcher, open_jobs=open_jobs, now=now)[0])
            self._watched_at = None


class LiveView:
    """Bars on a terminal, drawn over themselves; at most one screen high."""

    def __init__(self, console: Console) -> None:
        from rich.live import Live

        self._console = console
        self._pace = Pace()
        self._live = Live(console=console, auto_refresh=False, vertical_overflow="crop")

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.__exit__(kind, error, trace)

    def update(self, rows: Sequence[JobRow], watcher: Watcher) -> None:
        """Draw a new look."""
        self._pace.observe(rows, now=time.monotonic())
        self._live.update(
            frame(
                rows,
                watcher,
                pace=self._pace,
                width=self._console.width,
                height=self._console.height,
                now=time.time(),
            ),
            refresh=True,
        )


def progress_view(console: Console | None, *, say: Callable[[str], None]) -> ProgressView:
    """Return the view for a terminal, or (None) the log; `say` prints one line of it."""
    return LiveView(console) if console is not None else ChangeLog(say)


def frame(
    rows: Sequence[JobRow],
    watcher: Watcher,
    *,
    pace: Pace,
    width: int,
    height: int,
    now: float,
) -> RenderableType:
    """Return one picture of the live view, at most `height` lines high."""
    from rich.console import Group
    from rich.text import Text

    room = max(1, height - _FRAME_LINES)
    shown = list(rows)
    if len(shown) > room:
        shown = sorted(shown, key=lambda row: ATTENTION[row.state])[: room - 1]
    open_jobs = sum(map(is_open, rows))
    line, style = watcher_line(watcher, open_jobs=open_jobs, now=now)
    hidden = len(rows) - len(shown)
    parts: list[RenderableType] = [_bars(shown, width=width)] if shown else []
    if hidden:
        parts.append(Text(f"… and {hidden:,} more", style="dim"))
    parts.append(Text(counts_line(state_counts(row.state for row in rows))))
    parts.append(Text(pace_line(rows, pace), style="dim"))
    parts.append(Text(line, style=style, no_wrap=True, overflow="ellipsis"))
    parts += [
        Text(report, style="yellow", no_wrap=True, overflow="ellipsis")
        for report in report_lines(rows)[-2:]
    ]
    return Group(*parts)


def _bars(rows: Sequence[JobRow], *, width: int) -> RenderableType:
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    wide = width >= _NARROW
    bar_width = _BAR_WIDTH if wide else _NARROW_BAR_WIDTH
    # Least widths keep all but the free text whole; without them rich shrinks every column.
    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    skip = len(text.shared_prefix(row.name for row in rows))
    name_width = min(_longest(rows, lambda row: row.name) - skip, width // 4)
    grid.add_column("JOB", no_wrap=True, overflow="ellipsis", min_width=name_width)
    grid.add_column("STATE", no_wrap=True, min_width=_longest(rows, lambda row: row.state))
    grid.add_column("", no_wrap=True, min_width=bar_width)
    grid.add_column("STEP", justify="right", no_wrap=True, min_width=_longest(rows, steps))
    grid.add_column("ATTEMPTS", no_wrap=True, min_width=max(8, _longest(rows, _tries)))
    if wide:
        grid.add_column("LOSS", justify="right", no_wrap=True, min_width=_longest(rows, _loss))
    grid.add_column("INFORMATION", no_wrap=True, overflow="ellipsis", min_width=12)
    for row in rows:
        done = row.total_steps if row.state is JobState.COMPLETED else row.step or 0
        grid.add_row(
            Text(text.clean(row.name[skip:])),
            Text(row.state.value, style=STYLES[row.state]),
            ProgressBar(total=max(row.total_steps, done, 1), completed=done, width=bar_width),
            Text(steps(row)),
            Text(_tries(row)),
            *([Text(_loss(row))] if wide else []),
            Text(information(row) if wide else _brief(row), style="dim"),
        )
    return grid


def _longest(rows: Sequence[JobRow], shown: Callable[[JobRow], str]) -> int:
    return max(len(shown(row)) for row in rows)


def _tries(row: JobRow) -> str:
    return text.attempts(row.attempts, row.preemptions) if row.attempts else ""


def _loss(row: JobRow) -> str:
    return "" if row.loss is None else text.number(row.loss)


def _brief(row: JobRow) -> str:
    """Return, where there is room for one thing only, the loss while all is well."""
    well = row.state in (JobState.RUNNING, JobState.COMPLETED) and row.loss is not None
    stale = (row.heartbeat_age_seconds or 0.0) > STALE_HEARTBEAT_SECONDS
    if not well or (stale and row.state is JobState.RUNNING):
        return information(row)
    phase = row.phase if row.phase not in (None, "training") else ""
    return f"loss {_loss(row)}" + (f", {text.clean(phase)}" if phase else "")
