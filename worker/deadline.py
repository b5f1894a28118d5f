"""Is there time to save before the machine is taken? Pure.

To leave in time with 75 is worth more than a save that is cut off: only a rank that leaves lets
the batch script bring the job back. What a save takes is measured at every save, and known to
later attempts through the checkpoint. The grace time is the configured one, unless earlier attempts
were killed sooner.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

SAFETY = 1.2  # a save under a notice competes with everybody else's
KILLS = 2  # one short life after a notice may be a node that failed


@dataclass(frozen=True, slots=True, kw_only=True)
class Lived:
    """How long an attempt was there after its preemption notice, and whether it was killed."""

    epoch: int
    seconds: float
    killed: bool


def learned_grace(lived: Sequence[Lived], *, configured: float) -> float | None:
    """Return the seconds that a preemption really leaves; None: what is configured stands.

    Only deaths teach that it is shorter, and only several of them. The grace time was at least the
    longest life after a notice: a death for another reason shortens nothing.
    """
    if sum(one.killed for one in lived) < KILLS:
        return None
    longest = max(one.seconds for one in lived)
    return longest if longest < configured else None


def learned_words(lived: Sequence[Lived], *, learned: float, configured: float) -> str:
    """Return the line that says what is counted with, and why."""
    epochs = ", ".join(str(one.epoch) for one in lived if one.killed)
    return (
        f"grace_seconds is {configured:g}, but attempts {epochs} were killed after their notice,"
        f" at most {learned:.1f} s later: so much is counted with; tell grace_seconds what the"
        " partition gives"
    )


def too_late(*, deadline: float | None, now: float, save_seconds: float | None) -> str | None:
    """Return why a save cannot be over by `deadline` (wall clock seconds); None: try it.

    Without a deadline, or before anything was measured, it is tried.
    """
    if deadline is None or save_seconds is None or now + SAFETY * save_seconds <= deadline:
        return None
    return f"{max(0.0, deadline - now):.0f} s are left and a save takes {save_seconds:.0f} s"


def grace_warning(*, save_seconds: float, grace_seconds: float) -> str | None:
    """Return what a person should know before the first preemption; None: all is well."""
    if SAFETY * save_seconds <= grace_seconds:
        return None
    return (
        f"a save takes {save_seconds:.0f} s, but grace_seconds is {grace_seconds:g}: a preemption"
        " will cost the steps since the last periodic checkpoint; save more often"
        " (save.every_steps), or use a partition with a longer grace time"
    )
