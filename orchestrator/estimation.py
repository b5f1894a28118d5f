"""What new jobs may cost, in hours of CPUs and GPUs: two figures, each with its source."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Sequence
from pathlib import Path

from jobs.contract.paths import StateDir
from jobs.contract.records import BadRecord, ProgressRecord, read_record
from jobs.spec import JobSpec
from orchestrator.database import Database
from orchestrator.rows import Estimate

MEASURED_JOBS = 20  # so many finished jobs tell the pace of a matrix


def measured_pace(database: Database, state: StateDir, names: Collection[str]) -> list[float]:
    """Return seconds per step of the newest finished jobs of matrices, where they said so."""
    paces = []
    for name in names:
        for row in database.rows("finished_jobs", {"name": name, "limit": MEASURED_JOBS}):
            progress = _progress(state.job(row["id"]).attempt(row["epoch"]).progress)
            if progress is not None and progress.steps_per_second:
                paces.append(1 / progress.steps_per_second)
    return paces


def _progress(path: Path) -> ProgressRecord | None:
    try:
        return read_record(path, ProgressRecord)
    except (BadRecord, OSError):
        return None  # an estimate is no reason to fail


def estimate(specs: Sequence[JobSpec], paces: Sequence[float]) -> Estimate:
    """Return hours for the jobs: at most one whole attempt each, and by the measured pace."""
    cpu_limit = gpu_limit = cpu_steps = gpu_steps = 0.0
    for spec in specs:
        engine, resources = spec.semantic.engine, spec.run.resources
        cpus, gpus = engine.ranks * engine.threads_per_rank, engine.ranks * resources.gpus_per_rank
        hours = resources.time_limit_minutes / 60
        cpu_limit += cpus * hours
        gpu_limit += gpus * hours
        cpu_steps += cpus * spec.semantic.total_steps
        gpu_steps += gpus * spec.semantic.total_steps
    pace = statistics.median(paces) / 3600 if paces else None
    return Estimate(
        cpu_hours_limit=cpu_limit,
        gpu_hours_limit=gpu_limit,
        cpu_hours_measured=None if pace is None else cpu_steps * pace,
        gpu_hours_measured=None if pace is None else gpu_steps * pace,
        measured_jobs=len(paces),
    )
