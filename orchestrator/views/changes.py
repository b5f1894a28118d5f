"""What happened between two looks, one line a change: for logs, CI and pipes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence

from jobs.states import JobState
from orchestrator.rows import JobRow
from orchestrator.views import text
from orchestrator.views.status import steps


def change_lines(
    before: Mapping[str, JobRow], rows: Sequence[JobRow], *, now: float
) -> Iterator[str]:
    """Yield a line for every job whose state, attempt, preemptions or reports changed.

    `before` maps job ids to the rows of the last look (empty: the first look, which names only
    jobs that are on their way); `now` is wall clock seconds.
    """
    stamp = time.strftime("%H:%M:%S", time.localtime(now))
    for row in rows:
        old = before.get(row.id)
        if old is None:
            if not before and row.state in (JobState.NEW, JobState.COMPLETED):
                continue
            yield f"{stamp} {_describe(row)}"
            continue
        if row.preemptions > old.preemptions:
            yield f"{stamp} {text.clean(row.name)} preempted at step {row.step or 0}"
        if (row.state, row.epoch) != (old.state, old.epoch):
            yield f"{stamp} {_describe(row)}"
        for report in row.reports[len(old.reports) :]:
            yield f"{stamp} {text.clean(row.name)} {text.clean(report)}"


def _describe(row: JobRow) -> str:
    words = [text.clean(row.name), row.state.value]
    if row.state is JobState.RUNNING:
        words.append(f"attempt {row.epoch}" if row.epoch else "")
    if row.step:
        words.append(f"step {steps(row)}")
    if row.reason and row.state is not JobState.COMPLETED:
        words.append(f"({text.clean(row.reason)})")
    return " ".join(word for word in words if word)
