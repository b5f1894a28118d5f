"""The curve: rows of an attempt, and the one curve of the job merged from all its attempts.

A row holds no times: the curve of an interrupted run is equal, byte for byte, to that of an
uninterrupted one. Train rows `{step, loss, lr, samples}`, evaluation rows `{step, dev: {…}}`.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from durable.faults import hit
from jobs.archive import AttemptArchive
from jobs.contract.paths import JobDir
from jobs.curve import Row, decode_rows, merge, read_rows
from worker.claim import epochs
from worker.growing_file import GrowingFile


def encode_row(row: Row) -> bytes:
    """Return a row as a line; equal rows give equal bytes."""
    return (
        json.dumps(row, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode() + b"\n"
    )


class Curve:
    """An attempt's metrics.jsonl, appended by rank 0. Rows may be added while another flushes."""

    def __init__(self, path: Path) -> None:
        self._file = GrowingFile(path)
        self._flushing = threading.Lock()
        self._waiting: list[bytes] = []

    def add(self, row: Row) -> None:
        """Remember a row for the next flush."""
        self._waiting.append(encode_row(row))

    def flush(self) -> None:
        """Make all rows durable. Raises OSError; then they are kept for the next flush."""
        with self._flushing:
            rows = list(self._waiting)
            if not rows:
                return
            hit("metrics.before_flush")
            self._file.append(b"".join(rows))
            del self._waiting[: len(rows)]  # what was added meanwhile waits for the next


def job_curve(job: JobDir, *, up_to_epoch: int, steps: int) -> list[dict[str, Any]]:
    """Return the job's merged curve from all attempts up to an epoch."""
    archive = AttemptArchive.of(job)
    known = sorted(e for e in {*epochs(job), *archive.epochs} if e <= up_to_epoch)

    def rows(epoch: int) -> Iterator[Row]:
        path = job.attempt(epoch).metrics
        archived = None if path.exists() else archive.read(path)
        return read_rows(path) if archived is None else decode_rows(archived)

    attempts = (rows(epoch) for epoch in known)
    return merge(attempts, steps=steps)


def missing_steps(rows: Iterable[Row], *, steps: int) -> list[int]:
    """Return the steps without a training row."""
    present = {row["step"] for row in rows if "loss" in row}
    return [step for step in range(1, steps + 1) if step not in present]
