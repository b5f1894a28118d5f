"""A small submission request for unit tests."""

from __future__ import annotations

from typing import Any

from jobs.contract.records import TaskRecord, TasksRecord
from jobs.spec import ResourcesSpec
from orchestrator.schedulers.base import SubmitRequest

TOKEN = "0123456789abcdef"


def request(**changes: Any) -> SubmitRequest:
    """Return a request of three tasks; `resources` may be a dict."""
    indices = changes.pop("indices", (0, 1, 2))
    values: dict[str, Any] = {
        "token": TOKEN,
        "matrix_name": "quick",
        "directory": f"/srv/orch/submissions/{TOKEN}",
        "tasks": TasksRecord(
            token=TOKEN,
            scheduler="slurm",
            tasks=tuple(TaskRecord(index=i, job="0" * 16) for i in indices),
        ),
        "ranks": 2,
        "threads_per_rank": 1,
        "resources": {},
        "grace_seconds": 20.0,
        **changes,
    }
    values["resources"] = ResourcesSpec.model_validate(values["resources"])
    return SubmitRequest(**values)
