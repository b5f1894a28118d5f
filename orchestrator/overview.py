"""What a listing shows: all of a small store, of a huge one what a person should look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jobs.states import TERMINAL, JobState
from orchestrator.reading import Reading
from orchestrator.rows import JobRow, Tally
from orchestrator.views.palette import ATTENTION, INTERESTING, attention_order

REPORTING_JOBS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """A listing: rows in the order in which they are shown, and all the rest in numbers."""

    rows: Sequence[JobRow]
    tally: Tally
    reporting: Sequence[JobRow]  # jobs with reports, or the first of them
    reporting_jobs: int  # how many there are

    @property
    def total(self) -> int:
        """How many jobs there are."""
        return sum(self.tally.counts.values())

    @property
    def hidden(self) -> int:
        """How many jobs are not among the rows."""
        return self.total - len(self.rows)

    @property
    def open_jobs(self) -> int:
        """How many jobs still need a watcher."""
        over = {*TERMINAL, JobState.HELD}
        return sum(number for state, number in self.tally.counts.items() if state not in over)


def overview(reading: Reading, selector: str | None, *, limit: int | None) -> Overview:
    """Return up to `limit` rows (None: all) in their own order; of more only those that need
    attention, the most urgent first. Raises `NotFound`.

    A store that is not shown whole is not read whole.
    """
    if selector is None and limit is not None:
        tally = reading.tally()
        if sum(tally.counts.values()) > limit:
            reporting, jobs = reading.reporting(limit=REPORTING_JOBS)
            rows = reading.first_of(attention_order(), limit=limit)
            return Overview(rows=rows, tally=tally, reporting=reporting, reporting_jobs=jobs)
    return of_rows(reading.rows(selector), limit=limit)


def of_rows(rows: Sequence[JobRow], *, limit: int | None) -> Overview:
    """Return the overview of rows that are in memory."""
    counts: dict[str, int] = {}
    for row in rows:
        counts[row.state.value] = counts.get(row.state.value, 0) + 1
    tally = Tally(
        counts=counts,
        preemptions=sum(row.preemptions for row in rows),
        lost_steps=sum(row.lost_steps for row in rows),
    )
    shown = rows
    if limit is not None and len(rows) > limit:
        shown = [row for row in rows if row.state in INTERESTING]
        shown.sort(key=lambda row: ATTENTION[row.state])
        shown = shown[:limit]
    reporting = [row for row in rows if row.reports]
    return Overview(rows=shown, tally=tally, reporting=reporting, reporting_jobs=len(reporting))
