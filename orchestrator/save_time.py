"""How long a save will take, by what earlier saves of this instance took: said at submission."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from checkpoints.errors import BrokenCheckpoint
from checkpoints.manifest import decode_manifest
from checkpoints.reading import read_manifest_bytes
from checkpoints.retention import newest_first
from jobs.contract.paths import StateDir
from jobs.contract.records import BadRecord, ProgressRecord, read_record
from orchestrator.checkpoint_space import Prediction, size_words
from orchestrator.rows import JobRow

LOOKED_AT = 50  # jobs, the newest ones
# A small save is mostly waiting for the disk to say yes: it tells nothing of a large one.
COMPARABLE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredSave:
    """One checkpoint of an earlier job."""

    size: int  # bytes, of all ranks
    seconds: float


def measured_saves(state: StateDir, rows: Sequence[JobRow]) -> Iterator[MeasuredSave]:
    """Yield what the newest jobs' last saves took. What cannot be read is left out."""
    saved = [row for row in rows if row.epoch is not None and row.committed_step]
    for row in saved[-LOOKED_AT:]:
        job = state.job(row.id)
        try:
            progress = read_record(job.attempt(row.epoch or 0).progress, ProgressRecord)
            if progress is None or not progress.save_seconds:
                continue
            names = newest_first(path.name for path in job.checkpoints.iterdir())
            size = _size(job.checkpoints / names[0]) if names else 0
        except (BadRecord, BrokenCheckpoint, OSError, ValueError):
            continue
        if size:
            yield MeasuredSave(size=size, seconds=progress.save_seconds)


def _size(checkpoint: Path) -> int:
    manifest = decode_manifest(read_manifest_bytes(checkpoint))
    return sum(entry.bytes for entry in manifest.files)


def save_seconds(size: int, saves: Iterable[MeasuredSave]) -> float | None:
    """Return how long a save of `size` bytes takes; None: nothing comparable was measured. Pure."""
    speeds = [one.size / one.seconds for one in saves if one.size * COMPARABLE >= size]
    return size / statistics.median(speeds) if speeds else None


def save_warning(found: Iterable[Prediction], saves: Sequence[MeasuredSave]) -> str | None:
    """Return what a person should know where a save takes longer than a preemption leaves. Pure."""
    if not saves:
        return None
    worst: tuple[float, Prediction, float] | None = None
    for one in found:
        seconds = save_seconds(one.each, saves)
        grace = one.spec.run.grace_seconds
        if seconds is not None and seconds > grace and (worst is None or seconds > worst[0]):
            worst = (seconds, one, grace)
    if worst is None:
        return None
    seconds, one, grace = worst
    return (
        f"a save of {size_words(one.each)} takes about {seconds:.0f} s here, by what earlier saves"
        f" took ({size_words(one.each / seconds)}/s), but grace_seconds is {grace:g}: a preemption"
        " will cost the steps since the last periodic checkpoint; save more often"
        " (save.every_steps), or use a partition with a longer grace time"
    )
