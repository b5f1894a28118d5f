"""`--wait`: look until every job is over, out of time, or the user lets go."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from enum import Enum
from typing import TYPE_CHECKING

from jobs.states import JobState
from orchestrator.views.status import is_open

if TYPE_CHECKING:
    from orchestrator.cli.mover import Mover
    from orchestrator.rows import JobRow, Watcher
    from orchestrator.views.live import ProgressView

LOOK_SECONDS = 0.5
_LOOK_SHARE = 10  # a look at very many jobs is expensive: at most a tenth of the time


class WaitEnd(Enum):
    """How the waiting ended."""

    COMPLETED = "completed"  # every job has its result
    UNFINISHED = "failed"  # every job is over or held, and some have no result
    TIMED_OUT = "timed_out"  # the jobs go on


def wait_for(
    *,
    ids: Collection[str],
    look: Callable[[], tuple[Sequence[JobRow], Watcher]],
    mover: Mover,
    view: ProgressView,
    timeout: float | None = None,
    sleep: Callable[[float], None] = time.sleep,
    monotonic: Callable[[], float] = time.monotonic,
) -> WaitEnd:
    """Wait until no job of `ids` is open, at most `timeout` seconds.

    Raises whatever ended the loop of the mover, and KeyboardInterrupt.
    """
    start = monotonic()
    while True:
        began = monotonic()
        rows, watcher = look()
        mine = [row for row in rows if row.id in ids]
        view.update(mine, watcher)
        if not any(map(is_open, mine)):
            done = all(row.state is JobState.COMPLETED for row in mine)
            return WaitEnd.COMPLETED if done else WaitEnd.UNFINISHED
        mover.keep(watcher)
        now = monotonic()
        if timeout is not None and now - start >= timeout:
            return WaitEnd.TIMED_OUT
        pause = max(LOOK_SECONDS, _LOOK_SHARE * (now - began))
        sleep(pause if timeout is None else min(pause, max(0.0, start + timeout - now)))
