"""Where an attempt's seconds go. A monotonic clock; time in which the process stood still is apart.

A stopped process cannot see that it stands still. It sees SIGCONT afterwards: a long gap that ended
with one, and in which hardly any CPU was used, was a suspension.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from types import FrameType

from jobs.contract.records import Spent

SUSPENDED_SECONDS = 2.0  # shorter gaps are steps
BUSY_SHARE = 0.5  # of a gap; more CPU than that and the process has not stood still

# Which part the seconds of a phase belong to, unless they are replayed.
PARTS = {
    "starting": "starting",
    "training": "training",
    "evaluating": "evaluating",
    "saving": "saving",
    "testing": "testing",
    "testing_traditional": "testing",
    "finished": "testing",
}


class Stopwatch:
    """Adds each lap to the part it belongs to."""

    def __init__(
        self,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        cpu: Callable[[], float] = time.process_time,
    ) -> None:
        self._monotonic, self._cpu = monotonic, cpu
        self._since, self._cpu_since = monotonic(), cpu()
        self._seconds: dict[str, float] = {}
        self._continued = False
        self._replay_until = 0  # steps up to this one were done before, by an earlier attempt
        self._replayed_steps = 0

    def listen(self) -> None:
        """Hear of continuations. Main thread only."""
        signal.signal(signal.SIGCONT, self.on_continue)
        signal.siginterrupt(signal.SIGCONT, False)

    def on_continue(self, number: int = 0, frame: FrameType | None = None) -> None:
        """Note that the process was continued, or told so."""
        self._continued = True

    def replay_until(self, step: int) -> None:
        """Say which steps an earlier attempt had done already."""
        self._replay_until = step

    def step_done(self, step: int) -> None:
        """End a lap with a training step."""
        again = step <= self._replay_until
        self._replayed_steps += again
        self._lap("replayed" if again else "training")

    def lap(self, phase: str, step: int) -> None:
        """End a lap within a phase, after `step` steps of the whole job."""
        part = PARTS.get(phase, "training")
        # At the last step that was done before, nobody knows whether its evaluation was.
        if part in ("training", "evaluating") and step < self._replay_until:
            part = "replayed"
        self._lap(part)

    def spent(self) -> Spent:
        """Return the account so far."""
        seconds = {part: round(value, 3) for part, value in self._seconds.items()}
        return Spent.model_validate({**seconds, "replayed_steps": self._replayed_steps})

    def _lap(self, part: str) -> None:
        now, cpu = self._monotonic(), self._cpu()
        gap, busy = now - self._since, cpu - self._cpu_since
        if self._continued and gap > SUSPENDED_SECONDS and busy < BUSY_SHARE * gap:
            part = "suspended"
        self._continued = False
        self._since, self._cpu_since = now, cpu
        self._seconds[part] = self._seconds.get(part, 0.0) + gap
