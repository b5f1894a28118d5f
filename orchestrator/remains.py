"""What submissions left on disk: who was handed over, in which order, and by which call.

Only reads. A job's newest submission is the only one that may still live at a scheduler: a job
is handed over again only after its last task was over or surely lost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jobs.contract.paths import StateDir
from jobs.contract.records import BadRecord, Overrides, TasksRecord, read_record


@dataclass(frozen=True, slots=True, kw_only=True)
class PastSubmission:
    """One directory below submissions/."""

    token: str
    scheduler: str
    order: tuple[int, int, float, str]  # lease epoch, count within it, time of tasks.json, token
    jobs: Mapping[int, str]  # by index
    overrides: Mapping[str, Overrides]  # by job
    pack: int = 1


def read_submissions(state: StateDir) -> tuple[tuple[PastSubmission, ...], tuple[str, ...]]:
    """Return all submissions, oldest first, and what could not be read."""
    found, problems = [], []
    try:
        folders = sorted(state.submissions.iterdir())
    except FileNotFoundError:
        return (), ()
    for folder in folders:
        try:
            past = _read(state, folder.name)
        except (BadRecord, OSError) as error:
            problems.append(str(error))
        else:
            if past is not None:
                found.append(past)
    return tuple(sorted(found, key=lambda past: past.order)), tuple(problems)


def _read(state: StateDir, token: str) -> PastSubmission | None:
    directory = state.submission(token)
    record = read_record(directory.tasks, TasksRecord)
    if record is None or record.token != token:
        return None
    written = directory.tasks.stat().st_mtime
    return PastSubmission(
        token=token,
        scheduler=record.scheduler,
        order=(record.lease, record.number, written, token),
        jobs={task.index: task.job for task in record.tasks},
        overrides={task.job: task.overrides for task in record.tasks},
        pack=record.pack,
    )


def newest_of_jobs(submissions: Sequence[PastSubmission]) -> dict[str, PastSubmission]:
    """Return each job's newest submission; `submissions` are in their order."""
    return {job: past for past in submissions for job in past.jobs.values()}
