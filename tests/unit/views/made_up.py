"""Made-up rows; each test says only what matters to it."""

from __future__ import annotations

from typing import Any

from jobs.states import JobState
from orchestrator.rows import JobRow, ResultRow


def job(number: int = 1, state: JobState = JobState.RUNNING, **changes: Any) -> JobRow:
    """Return a job row, by default a running one at step 20 of 60."""
    values: dict[str, Any] = {
        "id": f"{number:016x}",
        "name": f"quickstart-{number:04d}",
        "matrices": ("quickstart",),
        "state": state,
        "step": 20,
        "total_steps": 60,
        "epoch": 1,
        "attempts": 1,
        "preemptions": 0,
        "scheduler": "local",
        "scheduler_id": "4711",
        "reason": "",
    }
    return JobRow(**{**values, **changes})


def result(number: int = 1, state: JobState = JobState.COMPLETED, **changes: Any) -> ResultRow:
    """Return a result row, by default of a completed job."""
    done = state is JobState.COMPLETED
    values: dict[str, Any] = {
        "id": f"{number:016x}",
        "name": f"quickstart-{number:04d}",
        "matrices": ("quickstart",),
        "state": state,
        "attempts": 1,
        "preemptions": 0,
        "exact": True if done else None,
        "weights_digest": f"sha256:{number:064x}" if done else None,
        "metrics": {"test": {"loss": 1.25, "accuracy": 0.5}} if done else {},
        "axes": {"train.lr": 1e-3 * number, "seed": 1},
    }
    return ResultRow(**{**values, **changes})
