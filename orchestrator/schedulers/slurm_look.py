"""One look at Slurm's queue, shared by all that needs it at one moment.

A tick searches for lost submissions, observes every task and then cancels, signals and undelays
some: without sharing that would be a `squeue` for each. The rules:

- an observation, and a search for one token, need a look that has not served them before: two
  ticks in quick succession must not count one listing as two;
- a look that failed is shared, too: a controller that is down is waited for once a tick;
- what acts on a task takes the token check from a look of the last `ACT_SECONDS`, else looks anew;
- a submission ends the look: it does not have the new tasks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from durable.clock import Clock
from orchestrator.schedulers.slurm_answers import Queue, by_task
from orchestrator.schedulers.slurm_queries import Heard, NoAnswer, read_queue, read_steps

# Between a look and a scancel an id would have to be lost and issued again to hit a stranger.
ACT_SECONDS = 5.0


@dataclass(kw_only=True)
class Look:
    """What squeue said at `taken_at` (wall clock, before it was asked); a string: why nothing."""

    taken_at: float
    monotonic: float
    queue: Queue | str
    heard: list[Heard] = field(default_factory=list)
    served: set[str] = field(default_factory=set)
    steps: Mapping[str, str] | str | None = None


class Looks:
    """Takes looks, and hands the last one out again while it is good for that."""

    def __init__(self, clock: Clock, *, seconds: float | None = None) -> None:
        self._clock = clock
        self._seconds = seconds
        self._last: Look | None = None

    def now(self) -> float:
        """Return the wall clock."""
        return self._clock.wall()

    def once(self, purpose: str) -> Look:
        """Return a look that has not served this purpose yet."""
        look = self._last
        if look is None or purpose in look.served or not self._is_fresh(look):
            look = self._take()
        look.served.add(purpose)
        return look

    def for_acting(self) -> Look:
        """Return a look young enough to check a token before something is done to its task."""
        look = self._last
        return look if look is not None and self._is_fresh(look) else self._take()

    def drop(self) -> None:
        """Forget the last look: the queue has changed by our own doing."""
        self._last = None

    def steps(self, look: Look) -> Mapping[str, str] | str:
        """Return the running steps with their names, listed once for a look; or why not."""
        if look.steps is None:
            try:
                look.steps = read_steps(seconds=self._seconds)
            except NoAnswer as error:
                look.steps = str(error)
        return look.steps

    def _take(self) -> Look:
        heard: list[Heard] = []
        taken_at, monotonic = self._clock.wall(), self._clock.monotonic()
        queue: Queue | str
        try:
            queue = by_task(read_queue(seconds=self._seconds, hear=heard.append))
        except NoAnswer as error:
            queue = str(error)
        self._last = Look(taken_at=taken_at, monotonic=monotonic, queue=queue, heard=heard)
        return self._last

    def _is_fresh(self, look: Look) -> bool:
        """Return whether the look is young by both clocks: one stands still in a suspend."""
        ages = self._clock.monotonic() - look.monotonic, self._clock.wall() - look.taken_at
        return all(0 <= age <= ACT_SECONDS for age in ages)
