"""Whether time went on evenly since the last tick, in whichever process that was.

Deadlines are moments of the wall clock, which may jump. A tick leaves both clocks and the boot id
beside the heartbeat; the next one, also of another process, compares. What cannot be proved is
taken for a jump: deadlines start anew, and nobody is stalled, lost or killed by it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from durable.clock import Clock
from orchestrator.store import Store

CLOCK_JUMP_SECONDS = 30.0
STANDSTILL_SECONDS = 300.0
# Ticks of several hosts, or before and after a reboot, have only the wall clocks in common: so
# much may have passed (cron every five minutes), and be wrong by as much at most.
ELSEWHERE_SECONDS = 330.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """When a tick looked."""

    wall: float  # seconds since the Unix epoch
    monotonic: float  # seconds since some point of this boot
    boot_id: str

    @classmethod
    def of(cls, clock: Clock) -> Stamp:
        """Return now."""
        return cls(wall=clock.wall(), monotonic=clock.monotonic(), boot_id=clock.boot_id())

    @classmethod
    def parsed(cls, values: Any) -> Stamp | None:
        """Return the stamp that a JSON object holds, None when it holds none."""
        try:
            return cls(
                wall=float(values["wall"]),
                monotonic=float(values["monotonic"]),
                boot_id=str(values["boot_id"]),
            )
        except (TypeError, KeyError, ValueError):
            return None


def went_on(before: Stamp | None, now: Stamp) -> bool:
    """Return whether the wall clock is known to have passed as time did."""
    if before is None:
        return False
    passed = now.wall - before.wall
    if before.boot_id == now.boot_id:
        return abs(passed - (now.monotonic - before.monotonic)) <= CLOCK_JUMP_SECONDS
    return -CLOCK_JUMP_SECONDS <= passed <= ELSEWHERE_SECONDS


def stood_still(own: Stamp | None, now: Stamp) -> bool:
    """Return whether this process was paused since its own last tick, as its attempts may have."""
    return own is not None and now.wall - own.wall > STANDSTILL_SECONDS


def begin_anew(store: Store, now: Stamp, *, lease_epoch: int) -> None:
    """Let what is waited for since some moment be waited for from now on."""
    with store.writing(lease_epoch):
        for name in ("unsettled_anew", "running_anew", "stops_anew"):
            store.database.run(name, {"now": now.wall})
