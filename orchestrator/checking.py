"""Asking whether a resource group would be taken at all, before its first submission.

A check has no effect, so it may be repeated: what a crash forgets is asked once more. What passed
is kept in the database, as verbs that tick are new processes; what was refused is not, since a
person changes the site and asks again; what proved nothing is not repeated for a while.
"""

from __future__ import annotations

from durable.clock import Clock
from orchestrator.database import Database
from orchestrator.schedulers.base import Checks, Passed, Refused, Scheduler, SubmitRequest

ASK_AGAIN_SECONDS = 600.0  # after an answer that proved nothing


class Checker:
    """Remembers which options a scheduler takes."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._not_before: dict[str, float] = {}  # monotonic
        self._passed: set[str] = set()

    def refusal(self, request: SubmitRequest, scheduler: Scheduler) -> Refused | None:
        """Return the refusal that a submission would surely meet; None: try it."""
        if not isinstance(scheduler, Checks):
            return None
        key = scheduler.check_key(request)
        now = self._clock.monotonic()
        if key in self._passed or self._database.one("options_checked", {"digest": key}):
            self._passed.add(key)
            return None
        if now < self._not_before.get(key, now):
            return None
        answer = scheduler.check(request)
        if isinstance(answer, Refused) and answer.permanent:
            return answer
        if isinstance(answer, Passed):
            self._passed.add(key)
        else:
            self._not_before[key] = now + ASK_AGAIN_SECONDS
        return None

    def passed(self, request: SubmitRequest, scheduler: Scheduler) -> None:
        """Remember that the scheduler took these options. Inside `writing`."""
        if isinstance(scheduler, Checks):
            values = {"digest": scheduler.check_key(request), "at": self._clock.wall()}
            self._database.run("options_check", values)
