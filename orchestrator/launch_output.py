"""What a launcher or batch script printed for a job: the last resort when no attempt has a log.

A worker that dies while it imports leaves nothing in its job directory; the words are in the
submission's directory (`launch.00000.out` of the local launcher, `1234_0.out` of Slurm).
"""

from __future__ import annotations

import re
from pathlib import Path

from jobs.contract.paths import JobDir, StateDir, SubmissionDir
from jobs.contract.records import BadRecord, TasksRecord, read_record

_SUBMISSIONS_SEARCHED = 500
_SLURM_OUTPUT = re.compile(r"\d+(?:_(\d+))?\.out")


def newest_output(job_dir: JobDir, *, scheduler_id: str | None = None) -> Path | None:
    """Return the newest non-empty launcher output that served the job, or None.

    Searches the 500 newest submissions; `scheduler_id` (e.g. "1234_7") is preferred on Slurm.
    """
    state = StateDir(job_dir.path.parent.parent)
    if not state.submissions.is_dir():
        return None
    directories = sorted(state.submissions.iterdir(), key=_changed_at, reverse=True)
    for directory in directories[:_SUBMISSIONS_SEARCHED]:
        submission = SubmissionDir(directory)
        task = _task_of(submission, job_dir.path.name)
        if task is None:
            continue
        place, index = task
        own = submission.cell_output(place)  # the others' words are not mixed into it
        if own.exists() and own.stat().st_size:
            return own
        outputs = [path for path in _outputs(submission, index) if path.stat().st_size]
        named = [path for path in outputs if scheduler_id and path.stem == scheduler_id]
        if named or outputs:
            return max(named or outputs, key=_changed_at)
    return None


def _changed_at(path: Path) -> float:
    return path.stat().st_mtime


def _task_of(submission: SubmissionDir, job_id: str) -> tuple[int, int] | None:
    """Return a job's index in tasks.json and that of its allocation."""
    try:
        tasks = read_record(submission.tasks, TasksRecord)
    except (BadRecord, OSError):
        return None  # another submission may still have the words
    if tasks is None:
        return None
    return next(
        ((task.index, task.index // tasks.pack) for task in tasks.tasks if task.job == job_id), None
    )


def _outputs(submission: SubmissionDir, index: int) -> list[Path]:
    found = [submission.output(index)] if submission.output(index).exists() else []
    for path in submission.path.iterdir():
        match = _SLURM_OUTPUT.fullmatch(path.name)
        if match and (match[1] is None or int(match[1]) == index):
            found.append(path)
    return found
