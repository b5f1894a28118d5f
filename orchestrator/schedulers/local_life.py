"""The life of local tasks: what ended, what must be pressed to end, what may start now."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from durable.clock import Clock
from durable.faults import hit
from jobs.contract.exit_codes import AGAIN_CODES
from jobs.contract.paths import StateDir, SubmissionDir
from orchestrator.schedulers.base import Known, TaskState
from orchestrator.schedulers.local_kills import killer_words, ranks_words
from orchestrator.schedulers.local_machine import task_environment
from orchestrator.schedulers.local_queue import LocalQueue, QueueEntry
from orchestrator.schedulers.local_task import MARKER, AskRecord, EndRecord, LocalTask, StartRecord

MAX_TRIES = 3  # starts that nobody answered for
LINGER_SECONDS = 10.0  # a launcher that has written its exit code and does not leave
_ASKED_STATE = {"cancel": TaskState.CANCELLED, "time_limit": TaskState.TIMEOUT}
Place = tuple[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A task that holds nothing; `tries` starts came to nothing."""

    entry: QueueEntry
    task: LocalTask
    tries: int = 0


@dataclass(slots=True, kw_only=True)
class Slots:
    """What is free on this machine."""

    cpus: int
    gpus: set[int]

    def fit(self, entry: QueueEntry) -> bool:
        """Return whether a task of this submission may start now."""
        return entry.cpus <= self.cpus and entry.gpus <= len(self.gpus)

    def take(self, entry: QueueEntry, gpus: Sequence[int]) -> None:
        """Hand a task its share out."""
        self.cpus -= entry.cpus
        self.gpus -= set(gpus)


@dataclass(slots=True, kw_only=True)
class LocalLife:
    """Moves all local tasks of one state directory. `over` and `waiting` are its memory."""

    state: StateDir
    queue: LocalQueue
    clock: Clock
    argv: tuple[str, ...]
    cpus: int
    gpus: tuple[int, ...]
    over: dict[Place, Known] = field(default_factory=dict)
    waiting: set[Place] = field(default_factory=set)
    _children: dict[Place, subprocess.Popen[bytes]] = field(default_factory=dict)
    _exit_codes: dict[Place, int] = field(default_factory=dict)  # of our own children

    def advance(self) -> None:
        """Reap, end and start what is due. Raises OSError when the disk does not answer."""
        now = self.clock.wall()
        for place, child in list(self._children.items()):
            code = child.poll()
            if code is not None:
                del self._children[place]
                self._exit_codes[place] = code
        slots = Slots(cpus=self.cpus, gpus=set(self.gpus))
        queue: list[Waiting] = []
        for entry in self.queue.open():
            if not self._follow_all(entry, slots, queue, now):
                self.queue.retire(entry.token)
        self.waiting = {(w.entry.token, w.task.index) for w in queue}
        for item in queue:
            # Strictly in order: a large task is not overtaken by small ones for ever.
            if not slots.fit(item.entry):
                break
            chosen = tuple(sorted(slots.gpus)[: item.entry.gpus])
            self._start(item, chosen, now)
            slots.take(item.entry, chosen)

    def _follow_all(
        self, entry: QueueEntry, slots: Slots, queue: list[Waiting], now: float
    ) -> bool:
        """Follow a submission's tasks; return whether any is not over."""
        submission = SubmissionDir(Path(entry.directory))
        touched = LocalTask.touched(self.state.local, submission)
        alive = False
        for index in range(entry.tasks):
            if (entry.token, index) in self.over:
                continue
            task = LocalTask(self.state.local, submission, index)
            # Thousands of tasks may wait: their files are asked for only once they have some.
            seen: StartRecord | Waiting | None = Waiting(entry=entry, task=task)
            if index in touched:
                seen = self._follow(entry, task, now)
            match seen:
                case None:
                    continue
                case Waiting():
                    queue.append(seen)
                case StartRecord(gpus=gpus):
                    slots.take(entry, gpus)
            alive = True
        return alive

    def _follow(
        self, entry: QueueEntry, task: LocalTask, now: float
    ) -> StartRecord | Waiting | None:
        """Bring one task's records up to date; None when it is over."""
        end = task.ended()
        if end is not None:
            self.over[(entry.token, task.index)] = known_end(end)
            return None
        start, asked = task.started(), task.asked()
        if start is None:
            if asked is None:
                return Waiting(entry=entry, task=task)
            self._end(entry, task, TaskState.CANCELLED, reason="before it began", person=True)
            return None
        if task.launcher_lives():
            self._press(entry, task, start, asked, now)
            return start
        return self._bury(entry, task, start, asked)

    def _press(
        self,
        entry: QueueEntry,
        task: LocalTask,
        start: StartRecord,
        asked: AskRecord | None,
        now: float,
    ) -> None:
        """End a running task that was asked to leave, or that has used up its time."""
        report = task.launch()
        leaving = report is not None and report.exit_code is not None
        if asked is None:
            if leaving or now - start.at > entry.time_limit_seconds:
                task.ask(at=now, cause="leaving" if leaving else "time_limit")
            return
        task.ask(at=now, cause=asked.cause)
        if now - asked.at > (LINGER_SECONDS if leaving else entry.grace_seconds):
            task.kill()

    def _bury(
        self, entry: QueueEntry, task: LocalTask, start: StartRecord, asked: AskRecord | None
    ) -> Waiting | None:
        """The launcher is gone: end what it left behind, and say how the task ended."""
        report = task.launch()
        same_boot = start.boot_id == self.clock.boot_id()
        if same_boot:
            task.kill()  # orphaned ranks: nothing of a task may outlive it
        code = report.exit_code if report else None
        own = self._exit_codes.pop((entry.token, task.index), None)
        if code is None and own is not None and own > 0:
            code = own  # it left before it could write its record
        if asked is not None and asked.cause in _ASKED_STATE and code != 0:
            state = _ASKED_STATE[asked.cause]
            self._end(entry, task, state, code=code, person=asked.cause == "cancel")
        elif code is not None:
            state = TaskState.COMPLETED if code == 0 else TaskState.FAILED
            if code in AGAIN_CODES:
                state = TaskState.PREEMPTED
            reason = ""
            if report is not None and report.killed_ranks and code != 0:
                reason = killer_words(ranks_words(report.killed_ranks), report.oom_kills)
                state = TaskState.OUT_OF_MEMORY if report.oom_kills else state
            self._end(entry, task, state, reason=reason, code=code)
        elif not same_boot:
            self._end(entry, task, TaskState.NODE_FAIL, reason="this machine was restarted")
        elif asked is not None and asked.cause == "kill":
            self._end(entry, task, TaskState.NODE_FAIL, reason="its launcher was killed by us")
        elif report is not None:
            kills = report.killed_by_kernel()
            state = TaskState.OUT_OF_MEMORY if kills else TaskState.NODE_FAIL
            self._end(entry, task, state, reason=killer_words("its launcher was", kills))
        elif start.tries >= MAX_TRIES:
            output = SubmissionDir(Path(entry.directory)).output(task.index)
            reason = f"its launcher dies at once; see {output}"
            self._end(entry, task, TaskState.LAUNCH_FAILED, reason=reason)
        else:
            # Nobody ever began: the starter was killed between its record and the launcher.
            return Waiting(entry=entry, task=task, tries=start.tries)
        return None

    def _end(
        self,
        entry: QueueEntry,
        task: LocalTask,
        state: TaskState,
        *,
        reason: str = "",
        code: int | None = None,
        person: bool = False,
    ) -> None:
        report = task.launch()
        process = report.process() if report else None
        pid = process.pid if process else None
        end = EndRecord(state=state, reason=reason, exit_code=code, by_person=person, pid=pid)
        task.write(end)
        hit("local.end_recorded")
        self.over[(entry.token, task.index)] = known_end(end)

    def _start(self, item: Waiting, gpus: tuple[int, ...], now: float) -> None:
        entry, task = item.entry, item.task
        lock = task.take_lock()
        if lock is None:
            return  # a launcher that was thought dead lives: the next look adopts it
        submission = SubmissionDir(Path(entry.directory))
        own = {MARKER: task.marker, "ORCH_HOME": str(self.state.path)}
        try:
            boot_id = self.clock.boot_id()
            task.write(StartRecord(boot_id=boot_id, at=now, tries=item.tries + 1, gpus=gpus))
            hit("local.start_recorded")
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            output = os.open(submission.output(task.index), flags, 0o600)
            try:
                child = subprocess.Popen(
                    [*self.argv, "--submission", entry.directory, "--index", str(task.index)],
                    cwd=self.state.path,
                    env=task_environment(os.environ, own, gpus if self.gpus else None),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    pass_fds=(lock,),
                    start_new_session=True,
                )
            finally:
                os.close(output)
        finally:
            os.close(lock)
        hit("local.spawned")
        self._children[(entry.token, task.index)] = child
        self.waiting.discard((entry.token, task.index))


def known_end(end: EndRecord) -> Known:
    """Return the scheduler's word for a task that is over."""
    return Known(
        state=end.state,
        reason=end.reason,
        nodes=os.uname().nodename,
        exit_code=end.exit_code,
        by_person=end.by_person,
        task_id=str(end.pid) if end.pid else "",
    )
