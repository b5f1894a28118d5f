"""The fault points of this package: where a crash would matter, and what it would mean."""

from __future__ import annotations

FAULT_POINTS: dict[str, str] = {
    "snapshot.captured": "a rank has copied its state, nothing is written",
    "snapshot.restore_checked": "a rank has checked a saved state, the engine is still fresh",
    "snapshot.before_apply": "all ranks agreed to restore, the engine is still fresh",
    "snapshot.half_applied": "tensors are in place, counters, masters' copies and RNG are not",
}
