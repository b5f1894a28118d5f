"""How long a watcher waits until it asks a scheduler again. Pure: times and events in, seconds out.

Where asking is cheap (the embedded scheduler) it asks every second. A cluster's controller serves
hundreds of users, so there it is asked rarely while nothing changes, and quickly for a short time
after something did: a requeued task gets its begin time removed, starts are seen, freed jobs are
handed over. Quick looks are paid from an allowance that refills slowly: a matrix in which something
ends every few seconds is watched steadily, and never as if each of its jobs were alone.

One look costs two requests to slurmctld (`squeue`, measured with `sdiag`), so a steady watcher
causes three a minute.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """The speeds of one kind of scheduler, in seconds."""

    quick: float  # while something is under way
    steady: float  # while nothing changes
    lively: float = 0.0  # how long after a change something is under way
    allowance: int | None = None  # quick looks that may be taken at once; None: any number
    refill: float = 10.0  # one more of them each so many seconds


LOCAL = Pace(quick=0.1, steady=1.0)
FAKE = Pace(quick=0.05, steady=0.05)
CLUSTER = Pace(quick=3.0, steady=40.0, lively=15.0, allowance=30)
PACES = {"local": LOCAL, "fake": FAKE}  # by the scheduler's name; others: CLUSTER


class Interval:
    """Remembers, for one watcher, when something last happened and what quick looks are left."""

    def __init__(self, pace: Pace) -> None:
        self.pace = pace
        self._left = float(pace.allowance or 0)
        self._filled_at: float | None = None
        self._changed_at: float | None = None

    def after(self, now: float, *, changed: bool) -> float:
        """Return the seconds until the next look, after one at `now` (monotonic).

        `changed`: the look found, or did, something that has a sequel.
        """
        if changed:
            self._changed_at = now
        lively = self._changed_at is not None and now - self._changed_at <= self.pace.lively
        return self.pace.quick if lively and self._pay(now) else self.pace.steady

    def _pay(self, now: float) -> bool:
        """Take one quick look from the allowance, if there is one."""
        if self.pace.allowance is None:
            return True
        passed = 0.0 if self._filled_at is None else max(0.0, now - self._filled_at)
        self._left = min(float(self.pace.allowance), self._left + passed / self.pace.refill)
        self._filled_at = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True
