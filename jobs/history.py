"""What a job directory says of a job's attempts, read tolerantly.

Light on purpose (no database, no torch): the batch script asks on a compute node. A record that
is torn or missing is an attempt that died before it could say more, never a failure to read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from jobs.archive import AttemptArchive
from jobs.contract.paths import JobDir, parse_checkpoint_name
from jobs.contract.records import (
    BadRecord,
    EpochRecord,
    ExitRecord,
    Outcome,
    ProgressRecord,
    RecordT,
    ResultRecord,
    Spent,
    read_record,
)

_EPOCH_FILE = re.compile(r"(\d{4,})\.json")
_EPOCH_DIR = re.compile(r"\d{4,}")
# How torch, C++, the C library and the kernel say it.
_HOST_MEMORY = re.compile(
    r"DefaultCPUAllocator|std::bad_alloc|Cannot allocate memory|oom[-_ ]?kill", re.IGNORECASE
)
_EXIT_FILE = re.compile(r"exit\.r\d{5,}\.json")

# The first of these that any rank reports says how the attempt ended: a rank that lost its
# peer only witnessed what another rank knows better.
DECISIVE = (
    Outcome.CONFIGURATION,
    Outcome.DEVICE_OOM,
    Outcome.EXCEPTION,
    Outcome.SAVED,
    Outcome.NO_PROGRESS,
    Outcome.COMPLETED,
    Outcome.FENCED,
    Outcome.PEER_LOST,
)


def decisive(exits: Sequence[ExitRecord]) -> ExitRecord | None:
    """Return the rank's record that says how its attempt ended; None without any."""
    return next((e for o in DECISIVE for e in exits if e.outcome is o), None)


def ran_out_of_memory(record: ExitRecord) -> bool:
    """Return whether an exception on record means that the host had no more memory."""
    error = record.error
    return error is not None and (
        error.type == "MemoryError" or _HOST_MEMORY.search(error.message) is not None
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptHistory:
    """One attempt: who it was, where it began, where it came to, how it ended."""

    epoch: int
    claim: EpochRecord | None = None  # None: torn or missing
    exits: tuple[ExitRecord, ...] = ()
    phase: str | None = None
    resumed_step: int | None = None  # 0: from the beginning; None: died before it knew
    resumed_from: str | None = None  # the checkpoint's name
    last_step: int | None = None
    committed_step: int | None = None  # newest step safe on disk, as far as this attempt knew
    total_steps: int | None = None
    evaluated: int = 0  # examples scored durably of the evaluation in which it ended
    spent: Spent | None = None  # rank 0's account of its seconds

    @property
    def exit(self) -> ExitRecord | None:
        """The rank's record that decides; None: it died without a word (or still runs)."""
        return decisive(self.exits)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobHistory:
    """All attempts of a job, oldest first, and whether it has its result."""

    job: str = ""
    attempts: tuple[AttemptHistory, ...] = ()
    completed: bool = False
    unclaimed: int = 0  # launches since the newest claim that ended before they became attempts

    def since(self, epoch: int) -> JobHistory:
        """Return the history as if attempts up to `epoch` had never been: budgets are whole."""
        return replace(self, attempts=tuple(a for a in self.attempts if a.epoch > epoch))


def read_history(job: JobDir, *, unclaimed: int = 0) -> JobHistory:
    """Return the history of a job; `unclaimed` is what only the asker can know."""
    names = _names(job.attempts)
    archive = AttemptArchive(job, names)
    epochs = _numbers(_names(job.epochs), _EPOCH_FILE) | _numbers(names, _EPOCH_DIR)
    if archive.paths:
        epochs |= archive.epochs
    committed = _committed_steps(_names(job.checkpoints))
    return JobHistory(
        job=job.path.name,
        attempts=tuple(
            _attempt(job, epoch, committed.get(epoch), archive) for epoch in sorted(epochs)
        ),
        completed=_has_result(job),
        unclaimed=unclaimed,
    )


def _attempt(
    job: JobDir, epoch: int, committed: int | None, archive: AttemptArchive
) -> AttemptHistory:
    directory = job.attempt(epoch)
    there = {*_names(directory.path), *(archive.files(epoch) if archive.paths else ())}
    names = [name for name in there if _EXIT_FILE.fullmatch(name)]
    records = (_tolerant(directory.path / name, ExitRecord, archive) for name in sorted(names))
    exits = tuple(record for record in records if record is not None and record.epoch == epoch)
    progress = _tolerant(directory.progress, ProgressRecord, archive)
    steps = [committed, progress.committed_step if progress else None]
    steps += [record.committed_step for record in exits]
    return AttemptHistory(
        epoch=epoch,
        claim=_tolerant(job.epoch(epoch), EpochRecord, archive),
        exits=exits,
        phase=progress.phase if progress else None,
        resumed_step=_resumed_step(progress),
        resumed_from=progress.resumed_from if progress else None,
        last_step=max(
            [*(record.last_step for record in exits), *([progress.step] if progress else [])],
            default=None,
        ),
        committed_step=max((step for step in steps if step is not None), default=None),
        total_steps=progress.total_steps if progress else None,
        evaluated=(progress.evaluated or 0) if progress else 0,
        spent=next(
            (e.spent for e in exits if e.rank == 0 and e.spent is not None),
            progress.spent if progress else None,
        ),
    )


def _resumed_step(progress: ProgressRecord | None) -> int | None:
    if progress is None:
        return None
    if progress.resumed_from is None:
        # Before the restore is done nobody knows; afterwards it means: from the beginning.
        return None if progress.phase == "starting" else 0
    parsed = parse_checkpoint_name(progress.resumed_from)
    return parsed[1] if parsed else None


def _has_result(job: JobDir) -> bool:
    result = _tolerant(job.result, ResultRecord)
    return result is not None and result.job == job.path.name


def _committed_steps(names: Iterable[str]) -> dict[int, int]:
    """Return the newest committed step of each epoch."""
    newest: dict[int, int] = {}
    for name in names:
        parsed = parse_checkpoint_name(name)
        if parsed:
            newest[parsed[0]] = max(parsed[1], newest.get(parsed[0], 0))
    return newest


def _tolerant(
    path: Path, kind: type[RecordT], archive: AttemptArchive | None = None
) -> RecordT | None:
    try:
        record = read_record(path, kind)
        return archive.record(path, kind) if record is None and archive is not None else record
    except (BadRecord, OSError):
        return None


def _numbers(names: Iterable[str], pattern: re.Pattern[str]) -> set[int]:
    return {int(name.split(".")[0]) for name in names if pattern.fullmatch(name)}


def _names(directory: Path) -> list[str]:
    try:
        return [entry.name for entry in directory.iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
