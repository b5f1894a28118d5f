"""Exit records: a rank's own account of its end, which beats the scheduler's."""

from __future__ import annotations

import time

from durable.faults import hit
from durable.files import publish_file
from jobs.contract.exit_codes import ExitCode
from jobs.contract.records import ErrorRecord, ExitRecord, Outcome, Spent, StopCause
from worker.attempt import Attempt


def write_exit(
    attempt: Attempt,
    *,
    outcome: Outcome,
    exit_code: ExitCode,
    last_step: int = 0,
    committed_step: int | None = None,
    cause: str | None = None,
    error: ErrorRecord | None = None,
    noticed_at: float | None = None,
    spent: Spent | None = None,
) -> None:
    """Publish this rank's exit record. A disk that refuses it does not change the exit code."""
    now = time.time()
    record = ExitRecord(
        epoch=attempt.epoch,
        rank=attempt.layout.rank,
        outcome=outcome,
        cause=StopCause(cause) if cause in set(StopCause) else None,
        exit_code=int(exit_code),
        last_step=last_step,
        committed_step=committed_step,
        error=error,
        seconds_from_notice=None if noticed_at is None else max(0.0, now - noticed_at),
        written_at=now,
        spent=spent,
    )
    try:
        hit("exit.before_record")
        publish_file(attempt.directory.exit_record(attempt.layout.rank), record.to_json())
    except OSError:
        return
