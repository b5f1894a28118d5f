"""progress.json: rank 0's heartbeat, at most about once a second, and at each change of phase."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from durable.files import publish_file
from jobs.contract.paths import AttemptDir
from jobs.contract.records import Notice, ProgressRecord, Spent
from worker.stopwatch import Stopwatch

INTERVAL_SECONDS = 1.0


class Progress:
    """What rank 0 publishes of an attempt; on other ranks nothing is written.

    There is no heartbeat thread on purpose: a hung main thread must look hung.
    """

    def __init__(
        self,
        directory: AttemptDir,
        *,
        epoch: int,
        total_steps: int,
        rank: int,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = directory.progress
        self._writes = rank == 0
        self._wall, self._monotonic = wall, monotonic
        self.stopwatch = Stopwatch(monotonic=monotonic)
        self._written = float("-inf")
        self._rate_from: tuple[int, float] | None = None
        self.reports: list[str] = []
        self._record = ProgressRecord(
            epoch=epoch,
            sequence=0,
            phase="starting",
            step=0,
            total_steps=total_steps,
            written_at=wall(),
        )
        self.phase("starting")

    @property
    def record(self) -> ProgressRecord:
        """The last state, written or not."""
        return self._record

    def phase(self, name: str) -> None:
        """Enter a phase; written at once."""
        self.stopwatch.lap(self._record.phase, self._record.step)
        if "saving" not in (name, self._record.phase):  # an evaluation that stops saves, too
            self._set(evaluated=None, to_evaluate=None)
        self._set(phase=name)
        self._rate_from = None
        self._write()

    def notice(self, notice: Notice) -> None:
        """Say that the attempt was asked to stop; written at once."""
        self._set(notice=notice)
        self._write()

    def report(self, line: str) -> None:
        """Add a line that a person should see, e.g. of a quarantined checkpoint."""
        self.reports.append(line)
        self._set(reports=tuple(self.reports))
        self._write()

    def at(self, step: int) -> None:
        """Say which step is done; written when due."""
        self.stopwatch.step_done(step)
        now = self._monotonic()
        if self._rate_from is None:
            self._rate_from = (step, now)
        first, since = self._rate_from
        rate = (step - first) / (now - since) if step > first and now > since else None
        self._set(step=step, steps_per_second=rate or self._record.steps_per_second)
        self.beat()

    def evaluated(self, count: int, of: int) -> None:
        """Say how many examples of an evaluation are scored durably; written when due."""
        self.update(evaluated=count, to_evaluate=of)

    def update(self, **fields: Any) -> None:
        """Set fields of the record; written when due."""
        self._set(**fields)
        self.beat()

    def committed(self, step: int) -> None:
        """Say that a checkpoint of `step` is committed; written at once."""
        self._set(committed_step=step)
        self._write()

    def beat(self) -> None:
        """Write if the last writing is old enough. Called wherever the attempt waits."""
        if self._monotonic() - self._written >= INTERVAL_SECONDS:
            self._write()

    def last(self) -> None:
        """Write where the attempt came to, whenever the last writing was: it is leaving."""
        self._write()

    def spent(self) -> Spent:
        """Return what the attempt's seconds went into, up to now."""
        self.stopwatch.lap(self._record.phase, self._record.step)
        return self.stopwatch.spent()

    def _set(self, **fields: Any) -> None:
        self._record = self._record.model_copy(update=fields)

    def _write(self) -> None:
        if not self._writes:
            return
        self._set(sequence=self._record.sequence + 1, written_at=self._wall(), spent=self.spent())
        self._written = self._monotonic()
        try:
            publish_file(self._path, self._record.to_json(), durable=False)
        except OSError:  # a full disk must not end a training that may still save
            return
