"""How fast one resource group's jobs may be handed over, learned from refusals. Pure.

Slurm refuses an array as a whole when one task of it is too many, and does not say how many would
have passed. So the pace remembers two totals of live tasks, one that was accepted and one that
was refused, and halves what lies between until they meet. Then nothing is asked any more until
tasks have ended, or until the limit is old enough to be doubted.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

BUSY_SECONDS = 20.0  # the first wait after a transient refusal
BUSY_SECONDS_AT_MOST = 300.0
FULL_SECONDS = 60.0  # the first doubt about a limit at which nothing ends
FULL_SECONDS_AT_MOST = 600.0
JITTER = 0.5  # of the wait, on top: several watchers must not ask in step


def backoff(failures: int, *, first: float, most: float, rng: random.Random) -> float:
    """Return the seconds to wait after so many failures in a row (from 1): doubling, jittered."""
    doubled: float = first * 2.0 ** min(failures - 1, 30)
    return min(most, doubled) * (1.0 + JITTER * rng.random())


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """What is known of one group. Times are monotonic seconds; totals count all live tasks."""

    floor: int = 0  # so many live tasks were accepted
    ceiling: int | None = None  # so many were refused; None: nothing was
    failures: int = 0  # refusals in a row that left nothing to try
    doubt_at: float = 0.0  # when a full ceiling is tried again
    closed_until: float = 0.0  # after a transient refusal

    def size(self, wanted: int, *, live: int, now: float) -> int:
        """Return how many of the wanted tasks to hand over next; 0: none now."""
        if now < self.closed_until:
            return 0
        if self.ceiling is None:
            return wanted
        gap = self.ceiling - 1 - live
        if gap <= 0:
            return min(wanted, 1 if now >= self.doubt_at else 0)
        proven = self.floor - live
        return min(wanted, proven if proven > 0 else (gap + 1) // 2)

    def accepted(self, count: int, *, live: int) -> Pace:
        """Return the pace after `count` tasks were taken beside `live` others."""
        total = live + count
        passed = self.ceiling is not None and total >= self.ceiling
        return replace(
            self,
            floor=max(self.floor, total),
            ceiling=None if passed else self.ceiling,
            # below a known limit an acceptance says nothing about the next doubt
            failures=0 if passed or self.ceiling is None else self.failures,
            closed_until=0.0,
        )

    def limited(self, count: int, *, live: int, now: float, rng: random.Random) -> Pace:
        """Return the pace after a submit limit refused `count` tasks beside `live` others."""
        known = replace(self, ceiling=live + count, floor=min(self.floor, live))
        if count > 1:
            return known
        failures = self.failures + 1
        wait = backoff(failures, first=FULL_SECONDS, most=FULL_SECONDS_AT_MOST, rng=rng)
        return replace(known, failures=failures, doubt_at=now + wait)

    def busy(self, *, now: float, rng: random.Random) -> Pace:
        """Return the pace after a refusal that has nothing to do with how many were wanted."""
        failures = self.failures + 1
        wait = backoff(failures, first=BUSY_SECONDS, most=BUSY_SECONDS_AT_MOST, rng=rng)
        return replace(self, failures=failures, closed_until=now + wait)
