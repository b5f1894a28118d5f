"""Made-up jobs of a table; each test says only what matters to it."""

from __future__ import annotations

from typing import Any

from jobs.states import JobState
from orchestrator.tables.jobs import TableJob


def job(
    number: int, score: float | None = None, *, metric: str = "test.rougeL", **settings: Any
) -> TableJob:
    """Return a job that is COMPLETED with a score, or FAILED without one.

    In names of settings `__` stands for the dot.
    """
    keys = {key.replace("__", "."): value for key, value in settings.items()}
    return TableJob(
        id=f"{number:016x}",
        state=JobState.FAILED if score is None else JobState.COMPLETED,
        settings={"seed": number, **keys},
        facts={"attempts": number},
        metrics={} if score is None else {metric: score},
    )
