"""Counting against a budget, and waiting between tries. Pure.

A budget belongs to a cause. Durable progress since the last end of that cause gives all of it
back: what fails once a day in a run of a month is not a run that fails.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from jobs.spec import RetrySpec

_DOUBLINGS = 60  # more would overflow nothing, and mean nothing


def spent(ends: Iterable[tuple[bool, int | None]]) -> int:
    """Return how many ends of one cause stand against its budget.

    `ends`, oldest first: whether it is of this cause, and the newest committed step it knew.
    """
    count, peak, peak_then = 0, 0, -1
    for counts, committed in ends:
        peak = max(peak, committed or 0)
        if counts:
            count = 1 if peak > peak_then else count + 1
            peak_then = peak
    return count


def backoff(count: int, retry: RetrySpec, *, job: str, attempt: int) -> float:
    """Return the seconds to wait after the `count`-th failure in a row (from 1).

    Doubles up to the cap. The jitter takes at most half and is drawn from job and attempt: equal
    inputs wait equally long, and a hundred jobs that failed together do not come back together.
    """
    if count < 1:
        return 0.0
    full = min(retry.max_delay_seconds, retry.delay_seconds * 2.0 ** min(count - 1, _DOUBLINGS))
    digest = hashlib.sha256(f"{job}:{attempt}".encode()).digest()
    return full * (1.0 - int.from_bytes(digest[:4], "big") / 2.0**33)
