"""How long the rest will take, from the steps seen during the last minute."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from jobs.states import TERMINAL, JobState
from orchestrator.rows import JobRow
from orchestrator.views import text

_WINDOW_SECONDS = 60.0
_LEAST_BASIS_SECONDS = 5.0


class Pace:
    """Remembers (monotonic seconds, steps done) of the last minute."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()

    def observe(self, rows: Sequence[JobRow], *, now: float) -> None:
        """Take a look at monotonic time `now`."""
        self._samples.append((now, sum(_done(row) for row in rows)))
        while now - self._samples[0][0] > _WINDOW_SECONDS:
            self._samples.popleft()

    def remaining_seconds(self, rows: Sequence[JobRow]) -> float | None:
        """Return the estimate, or None while there is too little to go by."""
        if len(self._samples) < 2:
            return None
        (start, before), (end, after) = self._samples[0], self._samples[-1]
        if end - start < _LEAST_BASIS_SECONDS or after <= before:
            return None
        left = sum(row.total_steps - _done(row) for row in rows if _counts(row))
        return left * (end - start) / (after - before)


def _counts(row: JobRow) -> bool:
    return row.state not in TERMINAL and row.state is not JobState.HELD


def _done(row: JobRow) -> int:
    if row.state is JobState.COMPLETED:
        return row.total_steps
    return min(row.step or 0, row.total_steps)


def pace_line(rows: Sequence[JobRow], pace: Pace) -> str:
    """Return e.g. `2/4 jobs done, 2 running, about 1 min left (waiting excluded)`."""
    over = sum(row.state in TERMINAL for row in rows)
    running = sum(row.state is JobState.RUNNING for row in rows)
    parts = [f"{over:,}/{len(rows):,} jobs done", f"{running:,} running"]
    remaining = pace.remaining_seconds(rows)
    if remaining is not None:
        parts.append(f"about {text.duration(remaining)} left (at this minute's pace)")
    return ", ".join(parts)
