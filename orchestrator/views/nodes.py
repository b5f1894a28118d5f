"""Nodes that jobs keep off, as lines and as a document."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from orchestrator.views.text import clean_line

if TYPE_CHECKING:
    from orchestrator.rows import ExclusionRow


def exclusion_line(row: ExclusionRow, *, now: float) -> str:
    """Return who is kept off, for how long, and why."""
    minutes = max(1, math.ceil((row.until - now) / 60))
    return clean_line(f"node {row.node} is kept off for {minutes} min more: {row.why}")


def exclusion_document(rows: Sequence[ExclusionRow]) -> dict[str, Any]:
    """Return `orch nodes --json`; times are wall clock seconds."""
    return {"schema_version": 1, "kept_off": [asdict(row) for row in rows]}
