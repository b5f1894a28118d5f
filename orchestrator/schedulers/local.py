"""The embedded scheduler: this machine's CPUs and GPUs, in the order of arrival.

All its state is in files, so that whoever holds the lease next adopts what runs. It moves
only inside `observe` and `submit`; without a watcher nothing new starts, and what runs goes on.
Nobody requeues here: an ended task is over, and the reconciler hands the job over again.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from durable.clock import Clock, SystemClock
from durable.faults import hit
from jobs.contract.paths import StateDir, SubmissionDir
from jobs.contract.records import BadRecord
from orchestrator.facts import Patience
from orchestrator.schedulers.base import (
    Absent,
    Accepted,
    Answer,
    Found,
    Known,
    Observation,
    Refused,
    SubmitOutcome,
    SubmitRequest,
    TaskKey,
    TaskState,
    Uncertain,
    Unreachable,
)
from orchestrator.schedulers.local_life import LocalLife, known_end
from orchestrator.schedulers.local_machine import count_cpus, visible_gpus
from orchestrator.schedulers.local_queue import LocalQueue, QueueEntry
from orchestrator.schedulers.local_task import AskRecord, LocalTask


class LocalScheduler:
    """Scheduler `local` of one state directory."""

    name = "local"
    chunk_limit = 500
    submit_limit = None
    # Its answers come from files that it alone writes: silence is evidence at once.
    patience = Patience(absent_answers=1, absent_seconds=0.0, find_answers=1, quiet_seconds=0.0)

    def __init__(
        self,
        home: Path,
        *,
        cpus: int | None = None,
        gpus: Sequence[int] | None = None,
        clock: Clock | None = None,
        launch_argv: Sequence[str] | None = None,
    ) -> None:
        """`launch_argv`: what starts a task, without `--submission DIR --index N`."""
        self._state = StateDir(home.absolute())
        self._clock = clock or SystemClock()
        self._queue = LocalQueue(self._state.local)
        self._life = LocalLife(
            state=self._state,
            queue=self._queue,
            clock=self._clock,
            argv=tuple(launch_argv or (sys.executable, "-P", "-m", "worker.launch")),
            cpus=cpus or count_cpus(),
            gpus=tuple(visible_gpus() if gpus is None else gpus),
        )

    # --- the Scheduler protocol

    def submit(self, request: SubmitRequest) -> SubmitOutcome:
        """Queue a submission."""
        pack = request.tasks.pack
        gpus = request.resources.gpus_per_rank * request.ranks * pack
        if gpus > len(self._life.gpus):
            return Refused(
                reason=f"a task needs {gpus} GPUs, this machine has {len(self._life.gpus)}",
                permanent=True,
                hint="lower resources.pack"
                if pack > 1
                else "lower resources.gpus_per_rank, or submit with --backend slurm",
            )
        entry = QueueEntry(
            token=request.token,
            sequence=self._queue.next_sequence(),
            directory=request.directory,
            tasks=len(request.tasks.allocations()),
            # Capped: a task that is larger than the machine waits for all of it, not for ever.
            cpus=min(self._life.cpus, request.ranks * request.threads_per_rank * pack),
            gpus=gpus,
            time_limit_seconds=request.resources.time_limit_minutes * 60.0,
            grace_seconds=request.grace_seconds,
        )
        try:
            self._queue.add(entry)
        except OSError as error:
            return Uncertain(reason=f"{self._state.local}: {error.strerror}")
        return Accepted(scheduler_id=request.token)

    def find(self, token: str) -> Found | Unreachable:
        """Search the queue, and what is over."""
        try:
            entry = self._queue.get(token)
        except (OSError, BadRecord) as error:
            return Unreachable(reason=str(error))
        return Found(scheduler_ids=(token,) if entry else ())

    def observe(self, keys: Sequence[TaskKey]) -> Observation:
        """Reap, end and start what is due, then answer."""
        now = self._clock.wall()
        try:
            self._life.advance()
            answers = {key: self._answer(key) for key in keys}
        except (OSError, BadRecord) as error:
            why = f"{self._state.local}: {error}"
            silent: dict[TaskKey, Answer] = {key: Unreachable(reason=why) for key in keys}
            return Observation(taken_at=now, answers=silent, unreachable=why)
        return Observation(taken_at=now, answers=answers)

    def cancel(self, keys: Sequence[TaskKey]) -> Mapping[TaskKey, str | None]:
        """End tasks: TERM, and KILL when their grace is over."""
        return {key: self._cancel(key) for key in keys}

    def notify(self, key: TaskKey) -> str | None:
        """Give a running task, or one cell of it, CONT and TERM."""
        task = self._running(key)
        if isinstance(task, str):
            return task
        return task.notify() if key.cell is None else task.cell(key.cell).notify()

    def kill(self, key: TaskKey) -> str | None:
        """SIGKILL a running task's processes."""
        task = self._running(key)
        if isinstance(task, str):
            return task
        if key.cell is not None:
            task.cell(key.cell).kill()
            return None
        if task.asked() is None:
            # A launcher killed before it said who it is must not look like one never born.
            task.write(AskRecord(at=self._clock.wall(), cause="kill", told=True))
        task.kill()
        return None

    def release(self, keys: Sequence[TaskKey]) -> Mapping[TaskKey, str | None]:
        """Nothing is ever held here: a held job has no task."""
        return dict.fromkeys(keys)

    def undelay(self, keys: Sequence[TaskKey]) -> Mapping[TaskKey, str | None]:
        """Nothing is ever delayed here."""
        return dict.fromkeys(keys)

    def nodes(self) -> tuple[str, ...] | None:
        """This machine."""
        return (os.uname().nodename,)

    def exclude(
        self, keys: Sequence[TaskKey], nodes: Sequence[str]
    ) -> Mapping[TaskKey, str | None]:
        """There is no other machine."""
        return dict.fromkeys(keys)

    # --- answers

    def _task(self, token: str, index: int) -> LocalTask | None:
        entry = self._queue.get(token)
        if entry is None or not 0 <= index < entry.tasks:
            return None
        return LocalTask(self._state.local, SubmissionDir(Path(entry.directory)), index)

    def _answer(self, key: TaskKey) -> Answer:
        place = (key.token, key.index)
        if place in self._life.waiting:
            return Known(state=TaskState.PENDING, reason="no free slot yet")
        if place in self._life.over:
            return self._life.over[place]
        task = self._task(key.token, key.index)
        if task is None:
            return Absent()
        end = task.ended()
        if end is not None:
            self._life.over[place] = known_end(end)
            return self._life.over[place]
        if task.started() is None:
            return Known(state=TaskState.PENDING, reason="no free slot yet")
        report = task.launch()
        process = report.process() if report else None
        over = report is not None and report.exit_code is not None
        return Known(
            state=TaskState.COMPLETING if over else TaskState.RUNNING,
            nodes=os.uname().nodename,
            task_id=str(process.pid) if process else "",
        )

    def _running(self, key: TaskKey) -> LocalTask | str:
        task = self._task(key.token, key.index)
        if task is None:
            return "this machine's queue does not have it"
        if task.started() is None or task.ended() is not None:
            return "it is not running"
        return task

    def _cancel(self, key: TaskKey) -> str | None:
        task = self._task(key.token, key.index)
        if task is None or task.ended() is not None:
            return None
        # `observe` repeats the notice until it has reached a launcher, and then presses.
        task.ask(at=self._clock.wall(), cause="cancel")
        hit("local.cancel_asked")
        return None
