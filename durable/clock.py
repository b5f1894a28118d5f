"""The seam to time. Durations come from `monotonic`, moments that others read from `wall`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Protocol

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def read_boot_id() -> str:
    """Return the id of this boot of the machine. Raises OSError where there is no /proc."""
    return _BOOT_ID.read_text(encoding="ascii").strip()


class Clock(Protocol):
    """What code may ask of time."""

    def wall(self) -> float:
        """Return seconds since the Unix epoch; may jump in both directions."""
        ...

    def monotonic(self) -> float:
        """Return seconds that only grow, meaningful within one boot."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait."""
        ...

    def boot_id(self) -> str:
        """Return the id of this boot: monotonic values of different boots cannot be compared."""
        ...


class SystemClock:
    """The machine's clock."""

    def wall(self) -> float:
        """Return seconds since the Unix epoch."""
        return time.time()

    def monotonic(self) -> float:
        """Return seconds since some point of this boot."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)

    def boot_id(self) -> str:
        """Return the kernel's boot id."""
        return read_boot_id()


class FakeClock:
    """A clock that moves only when told, or when someone sleeps on it."""

    def __init__(self, *, wall: float = 1_800_000_000.0, monotonic: float = 1_000.0) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._boot = 1

    def wall(self) -> float:
        """Return the told wall time."""
        return self._wall

    def monotonic(self) -> float:
        """Return the told monotonic time."""
        return self._monotonic

    def sleep(self, seconds: float) -> None:
        """Advance instead of waiting."""
        self.advance(seconds)

    def boot_id(self) -> str:
        """Return an id that changes with `reboot`."""
        return f"fake-boot-{self._boot}"

    def advance(self, seconds: float) -> None:
        """Let `seconds` (>= 0) pass on both clocks."""
        if seconds < 0:
            raise ValueError(f"time does not run backwards: {seconds}")
        self._wall += seconds
        self._monotonic += seconds

    def jump_wall(self, seconds: float) -> None:
        """Set the wall clock forwards or back, as NTP or a person would."""
        self._wall += seconds

    def reboot(self, *, down_seconds: float = 60.0) -> None:
        """Restart the machine: a new boot id, and monotonic time starts again."""
        self._wall += down_seconds
        self._monotonic = 1.0
        self._boot += 1
