"""Reading job directories in turns, like a guard on his rounds.

Ten thousand running attempts write ten thousand heartbeats between two ticks; reading them all,
with their claims and exit records, costs seconds of CPU and a shared filesystem dearly. For a task
that goes on running as before, a tick only asks whether its heartbeat file is another one than at
the last tick (one `stat`): that is a sign of life. Its directory is read when its turn comes, some
fifty jobs at each tick, and at once when anything else is under way: the scheduler says something
new, a stop is open, a rehearsal is awaited, an attempt has ended.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from jobs.contract.paths import StateDir
from jobs.states import JobState
from orchestrator.evidence import read_evidence
from orchestrator.facts import Evidence, JobFacts
from orchestrator.schedulers.base import Answer, Known, TaskState, Unreachable

READS_A_TICK = 50  # of those that run as before; a smaller matrix is read whole each time

Stamp = tuple[int, int] | None  # inode and modification time of a heartbeat file


@dataclass(slots=True)
class _Last:
    """What the last reading of a directory gave."""

    evidence: Evidence
    ended_epoch: int | None
    progress: str
    stamp: Stamp
    calm: bool  # nothing in it asks to be looked at again soon
    touched: Evidence | None = None  # the same, moved on


class Rounds:
    """Remembers, for one process, what each directory said and when its turn is."""

    def __init__(self, state: StateDir) -> None:
        self._state = state
        self._last: dict[str, _Last] = {}
        self._tick = 0
        self._period = 1

    def begin(self, live: frozenset[str]) -> None:
        """Begin a tick over these jobs with live tasks."""
        self._tick += 1
        self._period = max(1, -(-len(live) // READS_A_TICK))
        for job in self._last.keys() - live:
            del self._last[job]

    def evidence(self, job: JobFacts, answer: Answer | None) -> Evidence:
        """Return what the directory says, or (`touched`) what it said and that it has moved on."""
        last = self._last.get(job.id)
        if last is None or not self._runs_on(job, answer, last):
            return self._read(job)
        if (self._tick + int(job.id[-8:], 16)) % self._period == 0:
            return self._read(job)
        stamp = _stamp(last.progress)
        if stamp == last.stamp:
            return last.evidence
        last.stamp = stamp
        last.touched = last.touched or replace(last.evidence, touched=True)
        return last.touched

    def anew(self, job: JobFacts) -> Evidence:
        """Return what the directory says now."""
        return self._read(job)

    def _runs_on(self, job: JobFacts, answer: Answer | None, last: _Last) -> bool:
        """Return whether nothing but heartbeats can have happened, as far as anybody says."""
        same = isinstance(answer, Unreachable) or (
            isinstance(answer, Known) and answer.state is TaskState.RUNNING
        )
        return (
            same
            and last.calm
            and job.task.seen is TaskState.RUNNING
            and job.state is JobState.RUNNING
            and job.stop is None
            and last.ended_epoch == job.ended_epoch
            and (job.rehearsed or job.spec.run.rehearsal is None)
        )

    def _read(self, job: JobFacts) -> Evidence:
        directory = self._state.job(job.id)
        last = self._last.get(job.id)
        # Before reading: what is written meanwhile is then seen as new by the next tick.
        path = last.progress if last else ""
        stamp = _stamp(path) if path else None
        evidence = read_evidence(directory, job.spec, ended_epoch=job.ended_epoch)
        if evidence.epoch is None:
            self._last.pop(job.id, None)
            return evidence
        progress = str(directory.attempt(evidence.epoch).progress)
        self._last[job.id] = _Last(
            evidence=evidence,
            ended_epoch=job.ended_epoch,
            progress=progress,
            stamp=stamp if progress == path else _stamp(progress),
            calm=_is_calm(evidence),
        )
        return evidence


def _is_calm(evidence: Evidence) -> bool:
    """Return whether this is an attempt in the middle of its work."""
    return (
        evidence.result is None
        and evidence.result_rejected is None
        and evidence.sequence >= 0
        and evidence.phase != "finished"
        and not evidence.problems
        and len(evidence.attempts) == 1
        and evidence.attempts[0].epoch == evidence.epoch
        and not evidence.attempts[0].exits
    )


def _stamp(path: str) -> Stamp:
    try:
        found = os.stat(path)  # noqa: PTH116 - done for every running job
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns
