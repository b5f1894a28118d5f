"""A notice: someone wants this attempt to stop. A flag and a deadline, nothing more.

Sources: signals; control.json, which rank 0 polls (the orchestrator knows of a rehearsal, a
cancel or a time limit first); and the time limit itself. What is done about it is decided at
step boundaries by all ranks together (`worker.agreement`).
"""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType

from jobs.contract.records import BadRecord, ControlRecord, Notice, StopCause, read_record
from jobs.spec import Run
from worker.early_signals import NOTICE_SIGNALS

CONTROL_INTERVAL_SECONDS = 0.5
# Slurm sends SIGTERM at the limit, counted from before this process existed.
LIMIT_SLACK_SECONDS = 15.0
START_SLACK_SECONDS = 10.0

log = logging.getLogger("orch")


class Preemption:
    """This rank's knowledge of a wish to stop."""

    def __init__(
        self,
        *,
        epoch: int,
        grace_seconds: float,
        learned_grace: float | None = None,
        limit_at: float | None = None,
        control: Path | None = None,
        on_notice: Callable[[Notice, float], None] = lambda notice, at: None,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`limit_at`: wall time of the end of the allocation; `control`: rank 0 only.

        `learned_grace`: what preemption leaves, where that is less than configured; `on_notice` is
        told the first notice and when it came.
        """
        self._epoch = epoch
        self._grace = grace_seconds
        self.preemption_grace = learned_grace if learned_grace is not None else grace_seconds
        self._on_notice = on_notice
        self._limit_at = limit_at
        self._control = control
        self._wall, self._monotonic = wall, monotonic
        self._signalled_at: float | None = None
        self._looked = float("-inf")
        self._notice: Notice | None = None
        self.noticed_at: float | None = None

    def install(self) -> None:
        """Replace the early handlers. Main thread only."""
        for number in NOTICE_SIGNALS:
            signal.signal(number, self._on_signal)
            # A slow system call goes on afterwards instead of failing in somebody's library.
            signal.siginterrupt(number, False)

    def notice(self) -> Notice | None:
        """Return the first notice, once there is one. Cheap: called between batches."""
        if self._notice is None:
            self._notice = self._look()
            if self._notice is not None:
                self.noticed_at = self._signalled_at or self._wall()
                log.info("asked to stop: %s", self._notice.cause)
                self._on_notice(self._notice, self.noticed_at)
        return self._notice

    @property
    def known(self) -> Notice | None:
        """The notice as far as it was heard, without looking again."""
        return self._notice

    def flag(self) -> None:
        """Note that a signal came; the first one counts, since Slurm repeats itself."""
        if self._signalled_at is None:
            self._signalled_at = self._wall()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.flag()

    def _look(self) -> Notice | None:
        signalled, now = self._signalled_at, self._wall()
        asked = self._asked(at_once=signalled is not None)
        if asked is not None:
            seconds = asked.deadline_seconds if asked.deadline_seconds is not None else self._grace
            return Notice(cause=asked.cause.value, deadline=(signalled or now) + seconds)
        if signalled is not None:
            cause = self._cause(signalled)
            preempted = cause is StopCause.PREEMPTION
            grace = self.preemption_grace if preempted else self._grace
            return Notice(cause=cause.value, deadline=signalled + grace)
        if self._limit_at is not None and now >= self._limit_at - self._grace:
            return Notice(cause=StopCause.TIME_LIMIT.value, deadline=self._limit_at)
        return None

    def _cause(self, at: float) -> StopCause:
        near = self._limit_at is not None and at >= self._limit_at - LIMIT_SLACK_SECONDS
        return StopCause.TIME_LIMIT if near else StopCause.PREEMPTION

    def _asked(self, *, at_once: bool) -> ControlRecord | None:
        now = self._monotonic()
        if self._control is None or (not at_once and now - self._looked < CONTROL_INTERVAL_SECONDS):
            return None
        self._looked = now
        try:
            record = read_record(self._control, ControlRecord)
        except (BadRecord, OSError):  # a word that cannot be read is no word
            return None
        # An order to an earlier attempt lies there still: it is not for us.
        return record if record is not None and record.epoch == self._epoch else None


def allocation_end(run: Run, env: Mapping[str, str], *, started_at: float) -> float:
    """Return the wall time at which the allocation ends, as well as it can be known.

    SLURM_JOB_END_TIME is absent before Slurm 23; then this process's start plus the limit, less
    what passed before it started.
    """
    end = env.get("SLURM_JOB_END_TIME", "")
    if end.isdigit() and "SLURM_PROCID" in env:
        return float(end)
    limit = run.resources.time_limit_minutes * 60.0
    return started_at + limit - min(START_SLACK_SECONDS, limit / 4)
