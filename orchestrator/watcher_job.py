"""The watcher job of a state directory: which one it is, and what the last look at it said.

`watcher-job.json` names it (token before sbatch, id after). A tick that looks at the scheduler for
its tasks looks at this one in the same listing, so that `orch status` can say that it waits.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from jobs.contract.paths import StateDir
from jobs.contract.records import BadRecord, Record, read_record
from orchestrator.observation import read_watcher_job
from orchestrator.rows import WatcherJobSeen
from orchestrator.schedulers.base import OVER, Absent, Answer, Known, Observation, TaskKey


class WatcherJobRecord(Record):
    """watcher-job.json: the newest watcher job of the state directory."""

    token: str
    submitted_at: float  # wall clock seconds
    scheduler_id: str | None = None  # None: sbatch's answer is not known
    scheduler: str = "slurm"


def record_file(state: StateDir) -> Path:
    """Return where the record lies."""
    return state.path / "watcher-job.json"


def read_watcher_record(state: StateDir) -> WatcherJobRecord | None:
    """Return the record; None without a readable one."""
    try:
        return read_record(record_file(state), WatcherJobRecord)
    except BadRecord:
        return None  # two watchers do no harm: one holds the lease, the other stands by


def seen_as(record: WatcherJobRecord, answer: Answer, *, at: float) -> WatcherJobSeen | None:
    """Return what an answer about the job says; None: it says nothing."""
    task = f"{record.scheduler_id}_0"
    match answer:
        case Known(state=state, reason=reason):
            live = state not in OVER
            return WatcherJobSeen(
                token=record.token,
                task=task,
                state=state.value,
                reason=reason,
                live=live,
                seen_at=at,
            )
        case Absent():
            return WatcherJobSeen(
                token=record.token, task=task, state="absent", reason="", live=False, seen_at=at
            )
    return None


class WatcherJobLook:
    """The watcher job within one tick's look at the schedulers."""

    def __init__(self, state: StateDir) -> None:
        self._record = read_watcher_record(state)
        self._before = read_watcher_job(state)

    def key(self, scheduler: str) -> TaskKey | None:
        """Return the task to ask this scheduler about, too; None: there is none that may live.

        One that is over is not asked about again: the queue forgets it, and accounting would be
        asked in every tick.
        """
        record, before = self._record, self._before
        if record is None or record.scheduler_id is None or record.scheduler != scheduler:
            return None
        if before is not None and before.token == record.token and not before.live:
            return None
        return TaskKey(token=record.token, scheduler_id=record.scheduler_id, index=0)

    def seen(self, observations: Mapping[str, Observation]) -> WatcherJobSeen | None:
        """Return what is known of the job after a look."""
        record, before = self._record, self._before
        if record is None:
            return None
        observation = observations.get(record.scheduler)
        key = self.key(record.scheduler)
        if observation is not None and key is not None and key in observation.answers:
            found = seen_as(record, observation.answers[key], at=observation.taken_at)
            if found is not None:
                return found
        return before if before is not None and before.token == record.token else None
