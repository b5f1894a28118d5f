"""Is there time to save before the machine is taken? Pure.

To leave in time with 75 is worth more than a save that is cut off: only a rank that leaves lets
the batch script bring the job back. What a save takes is measured at every save, and known to
later attempts through the checkpoint.
"""

from __future__ import annotations

SAFETY = 1.2  # a save under a notice competes with everybody else's


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
