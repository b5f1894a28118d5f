"""The newest heartbeat of an attempt, read for display only.

Listings of thousands of jobs read hundreds of these; the validated record
(`jobs.contract.records.ProgressRecord`) costs the import of pydantic's models, a third of
`orch status`. What decides anything reads the record.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from durable.regular import read_regular

_MAX_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """What a listing shows of progress.json."""

    step: int
    total_steps: int
    phase: str
    loss: float | None
    committed_step: int | None
    reports: tuple[str, ...]
    written_at: float


def read_heartbeat(path: Path) -> Heartbeat | None:
    """Return the heartbeat; None for a missing or odd file, which the tick reports."""
    try:
        values = json.loads(read_regular(path, limit=_MAX_BYTES))
        return Heartbeat(
            step=int(values["step"]),
            total_steps=int(values["total_steps"]),
            phase=str(values["phase"]),
            loss=_number(values.get("loss")),
            committed_step=None if (c := values.get("committed_step")) is None else int(c),
            reports=tuple(map(str, values.get("reports", ()))),
            written_at=float(values["written_at"]),
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
