"""The learning curve of a job, also of one that is not over yet."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any

from jobs.archive import AttemptArchive
from jobs.contract.paths import JobDir
from jobs.contract.records import BadRecord
from jobs.curve import Row, decode_rows, merge, read_rows
from orchestrator.evidence import newest_epoch


def read_curve(job: JobDir) -> list[dict[str, float]]:
    """Return the rows of a job by step, each as dotted names and numbers; empty before any.

    The published curve where there is a result, else each step from its highest attempt so far.
    Raises OSError.
    """
    rows: list[dict[str, Any]] = list(read_rows(job.metrics))
    if not rows:
        last = newest_epoch(job) or 0
        archive = AttemptArchive.of(job)
        attempts = (_attempt(job, epoch, archive) for epoch in range(1, last + 1))
        rows = merge(attempts, steps=sys.maxsize)
    return [dict(_numbers(row)) for row in rows]


def _attempt(job: JobDir, epoch: int, archive: AttemptArchive) -> Iterator[Row]:
    path = job.attempt(epoch).metrics
    if path.exists():
        yield from read_rows(path)
        return
    try:
        data = archive.read(path)
    except BadRecord:  # what it held is lost to the picture; `orch doctor` names it
        return
    yield from decode_rows(data or b"")


def _numbers(row: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for name, value in row.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{prefix}{name}", float(value)
