"""Time in which this process was running: for bounds on waiting, and for what a save takes.

A job that is suspended (SIGSTOP, `scontrol suspend`) and continued has waited for nobody meanwhile:
when all ranks stand still, none of them is late.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

# Who waits looks far more often than this. A longer gap between two looks is time in which the
# process did not run: stopped, or not scheduled.
LOOK_SECONDS = 1.0


class Patience:
    """So many seconds of own running time. The owner asks again and again while it waits."""

    def __init__(self, seconds: float, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self._monotonic = monotonic
        self._spent = 0.0
        self._last = monotonic()

    def look(self) -> float:
        """Return the seconds that are left, at least 0; call it at least once a second."""
        now = self._monotonic()
        self._spent += min(now - self._last, LOOK_SECONDS)
        self._last = now
        return max(0.0, self.seconds - self._spent)

    @property
    def over(self) -> bool:
        """Whether they have passed; looks."""
        return self.look() <= 0


class RunningClock:
    """Monotonic seconds, less those in which the process stood still, once it is `watched`."""

    STILL_SECONDS = 3.0  # a longer gap between two ticks

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._last, self._still = monotonic(), 0.0
        self._watched = False

    def now(self) -> float:
        """Return the seconds; looks for a gap."""
        with self._lock:
            now = self._monotonic()
            if self._watched and now - self._last > self.STILL_SECONDS:
                self._still += now - self._last - LOOK_SECONDS
            self._last = now
            return now - self._still

    def watched(self) -> None:
        """Tick from now on, so that a gap means something."""
        self.now()
        self._watched = True
        threading.Thread(target=self._tick, name="clock", daemon=True).start()

    def _tick(self) -> None:
        while True:
            time.sleep(LOOK_SECONDS)
            self.now()


running = RunningClock()  # of this process, as there is one monotonic clock
