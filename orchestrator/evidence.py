"""What a job directory says: claims, heartbeats, exit records and the result.

Nothing here decides, and nothing here is believed without its schema: an unreadable record is
reported and counts as missing; a result.json counts only when it is this job's.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TypeVar

from jobs.archive import AttemptArchive
from jobs.contract.paths import AttemptDir, JobDir
from jobs.contract.records import (
    BadRecord,
    EpochRecord,
    ExitRecord,
    ProgressRecord,
    Record,
    ResultRecord,
    Spent,
    read_record,
)
from jobs.spec import JobSpec, semantic_digest
from orchestrator.facts import AttemptFacts, Evidence

_EPOCH = re.compile(r"(\d{4,})\.json")
_EXIT = re.compile(r"exit\.r(\d{5,})\.json")

RecordT = TypeVar("RecordT", bound=Record)


def read_result(directory: JobDir, spec: JobSpec) -> tuple[ResultRecord | None, str | None]:
    """Return the job's valid result, or why the file that is there is none."""
    try:
        result = read_record(directory.result, ResultRecord)
    except BadRecord as error:
        return None, str(error)
    if result is None:
        return None, None
    if result.job != spec.id:
        return None, f"{directory.result}: job: {result.job!r} is not {spec.id}"
    if result.spec_digest.removeprefix("sha256:") != semantic_digest(spec.semantic):
        return None, f"{directory.result}: spec_digest: not the digest of this job's spec"
    return result, None


def newest_epoch(directory: JobDir) -> int | None:
    """Return the number of the newest claim, or None before the first."""
    return max(_numbers(directory.epochs, _EPOCH), default=None)


def read_evidence(directory: JobDir, spec: JobSpec, *, ended_epoch: int | None) -> Evidence:
    """Return what the directory says; attempts up to `ended_epoch` are recorded already."""
    problems: list[str] = []
    result, rejected = read_result(directory, spec)
    epochs = sorted(_numbers(directory.epochs, _EPOCH))
    archive = None
    # Claims are numbered without gaps: where one is missing it has been archived.
    if epochs and not set(range((ended_epoch or 0) + 1, epochs[-1])) <= set(epochs):
        archive = AttemptArchive.of(directory)
        epochs = sorted({*epochs, *archive.epochs})
    attempts = []
    for epoch in epochs:
        if epoch > (ended_epoch or 0):
            attempt = _attempt(directory, epoch, problems, archive)
            if attempt is not None:
                attempts.append(attempt)
    newest = epochs[-1] if epochs else None
    progress = None
    if newest is not None:
        progress = _record(directory.attempt(newest).progress, ProgressRecord, problems)
    return Evidence(
        result=result,
        result_rejected=rejected,
        epoch=newest,
        sequence=progress.sequence if progress else -1,
        step=progress.step if progress else None,
        total_steps=progress.total_steps if progress else None,
        committed_step=progress.committed_step if progress else None,
        phase=progress.phase if progress else None,
        loss=progress.loss if progress else None,
        reports=progress.reports if progress else (),
        attempts=tuple(attempts),
        problems=tuple(problems),
    )


def read_attempt(directory: JobDir, epoch: int) -> AttemptFacts | None:
    """Return what one attempt left behind so far; None when its claim cannot be read."""
    folded = not directory.epoch(epoch).exists()
    return _attempt(directory, epoch, [], AttemptArchive.of(directory) if folded else None)


def _attempt(
    directory: JobDir, epoch: int, problems: list[str], archive: AttemptArchive | None
) -> AttemptFacts | None:
    claim = _record(directory.epoch(epoch), EpochRecord, problems, archive)
    if claim is None:
        return None
    attempt = directory.attempt(epoch)
    exits = _exits(attempt, epoch, problems, archive)
    progress = _record(attempt.progress, ProgressRecord, problems, archive)
    steps = [e.last_step for e in exits] + ([progress.step] if progress else [])
    committed = [e.committed_step for e in exits] + ([progress.committed_step] if progress else [])
    return AttemptFacts(
        epoch=epoch,
        token=claim.token,
        last_step=max(steps, default=None),
        committed_step=max((c for c in committed if c is not None), default=None),
        resumed_from=progress.resumed_from if progress else None,
        exits=exits,
        shown_id=_shown_id(claim),
        host=claim.host,
        started_at=claim.started_at,
        left_at=max((e.written_at for e in exits if e.written_at is not None), default=None),
        spent=_spent(exits, progress),
    )


def _shown_id(claim: EpochRecord) -> str:
    """Return how people name the attempt's task to its scheduler; locally that is a pid."""
    if claim.scheduler == "local":
        return str(claim.pid)
    task = "" if claim.array_task is None else f"_{claim.array_task}"
    return f"{claim.scheduler_id}{task}"


def _spent(exits: tuple[ExitRecord, ...], progress: ProgressRecord | None) -> Spent | None:
    """Return rank 0's account, the newest that there is."""
    last = next((e.spent for e in exits if e.rank == 0 and e.spent is not None), None)
    return last or (progress.spent if progress else None)


def _exits(
    attempt: AttemptDir, epoch: int, problems: list[str], archive: AttemptArchive | None
) -> tuple[ExitRecord, ...]:
    found, ranks = [], set(_numbers(attempt.path, _EXIT))
    if archive is not None:
        ranks |= {int(m[1]) for name in archive.files(epoch) if (m := _EXIT.fullmatch(name))}
    for rank in sorted(ranks):
        record = _record(attempt.exit_record(rank), ExitRecord, problems, archive)
        if record is not None and (record.epoch, record.rank) == (epoch, rank):
            found.append(record)
    return tuple(found)


def _numbers(folder: Path, pattern: re.Pattern[str]) -> list[int]:
    try:
        names = os.listdir(folder)  # noqa: PTH208 - half the cost, and done for every live job
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [int(match[1]) for name in names if (match := pattern.fullmatch(name))]


def _record(
    path: Path,
    kind: type[RecordT],
    problems: list[str],
    archive: AttemptArchive | None = None,
) -> RecordT | None:
    try:
        record = read_record(path, kind)
        return archive.record(path, kind) if record is None and archive is not None else record
    except BadRecord as error:
        problems.append(str(error))
    except OSError as error:
        problems.append(f"{path}: {error.strerror}")
    return None
