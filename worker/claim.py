"""Claiming an epoch: who holds the job.

Rank 0 creates `epochs/NNNN.json` exclusively; the highest one holds the job, and an older one can
commit neither checkpoint nor result (P2). The other ranks find the claim of their own launch. The
scheduler's job id alone never identifies it: a node that only looked dead leaves two live copies
with one id, which differ in their restart count.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from checkpoints.errors import Fenced
from durable.faults import hit
from durable.files import private_dir, publish_new
from jobs.contract.paths import JobDir
from jobs.contract.records import EpochRecord, read_record

_EPOCH_FILE = re.compile(r"(\d{4,})\.json")
POLL_SECONDS = 0.05


class NoClaim(Exception):
    """Rank 0 of this launch claimed no epoch in time."""


def epochs(job: JobDir) -> list[int]:
    """Return the claimed epochs in ascending order."""
    if not job.epochs.is_dir():
        return []
    matches = (_EPOCH_FILE.fullmatch(path.name) for path in job.epochs.iterdir())
    return sorted(int(match[1]) for match in matches if match)


def claim(job: JobDir, wanted: EpochRecord) -> EpochRecord:
    """Claim the next epoch for `wanted` (its `epoch` is ignored) and make the attempt directory."""
    private_dir(job.epochs)
    while True:
        record = wanted.model_copy(update={"epoch": (epochs(job) or [0])[-1] + 1})
        hit("claim.before_publish")
        if publish_new(job.epoch(record.epoch), record.to_json()):
            hit("claim.after_publish")
            private_dir(job.attempt(record.epoch).path)
            return record
        # Somebody else took that number: they hold the job until we claim the next.


def find_claim(
    job: JobDir,
    wanted: EpochRecord,
    *,
    timeout_seconds: float,
    monotonic: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> EpochRecord:
    """Return the claim that rank 0 of this launch made; waits for it, bounded.

    Raises `NoClaim` when there is none after `timeout_seconds`.
    """
    deadline = monotonic() + timeout_seconds
    while True:
        for epoch in reversed(epochs(job)):
            record = read_record(job.epoch(epoch), EpochRecord)
            if record is not None and same_launch(record, wanted):
                private_dir(job.attempt(epoch).path)
                return record
        if monotonic() >= deadline:
            raise NoClaim(
                f"{job.epochs}: rank 0 of this launch claimed no epoch in {timeout_seconds:.0f} s"
            )
        sleep(POLL_SECONDS)


def same_launch(one: EpochRecord, other: EpochRecord) -> bool:
    """Tell whether two records describe one launch: one try of one task."""
    fields = ("token", "scheduler_id", "array_task", "restart_count", "launch_id")
    return all(getattr(one, field) == getattr(other, field) for field in fields)


def check_fence(job: JobDir, epoch: int) -> None:
    """Raise `Fenced` when a higher epoch is claimed."""
    highest = (epochs(job) or [0])[-1]
    if highest > epoch:
        raise Fenced(f"epoch {highest} holds the job, this attempt is epoch {epoch}")
