"""Carrying out what the reconciler decided: the store first, effects after the commit.

All store changes of a tick are one transaction. An effect that a crash swallows is decided
again by the next tick, because its record (`stop_notified` …) is written only after it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from durable.clock import Clock
from durable.faults import hit
from durable.files import publish_file
from jobs.contract.paths import JobDir, StateDir
from jobs.contract.records import ControlRecord, StopCause
from jobs.history import read_history
from jobs.states import JobState
from orchestrator.actions import (
    Action,
    CancelTask,
    CloseTask,
    Complete,
    DecideNext,
    FinishStop,
    JudgeHold,
    Kill,
    Move,
    Notify,
    RecordEnd,
    RejectResult,
    ReleaseTask,
    RequestStop,
    SeeProgress,
    SeeTask,
    StartAgain,
    Undelay,
)
from orchestrator.classification import Meaning
from orchestrator.facts import Evidence, JobFacts
from orchestrator.packs import end_tasks
from orchestrator.policy import GiveUp, RunAgain, next_step
from orchestrator.schedulers.base import Scheduler, TaskKey
from orchestrator.store import Store

HEARTBEAT_LAG_SECONDS = 90.0  # so much older may the store's last sign of life be
_CONTROL_CAUSE = {
    "rehearsal": StopCause.REHEARSAL,
    "preemption": StopCause.REHEARSAL,  # `orch preempt` is a rehearsal that a person asked for
    "cancel": StopCause.CANCEL,
    "hold": StopCause.HOLD,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """One job's actions, with what they were decided from."""

    job: JobFacts
    evidence: Evidence
    actions: tuple[Action, ...]


@dataclass(slots=True, kw_only=True)
class Effects:
    """What is to be done to the world once the decisions are committed."""

    undelay: list[tuple[str, TaskKey]] = field(default_factory=list)
    stops: list[tuple[JobFacts, Notify | Kill | CancelTask]] = field(default_factory=list)
    releases: list[tuple[JobFacts, ReleaseTask]] = field(default_factory=list)


class Applier:
    """The only place where decisions become changes."""

    def __init__(self, store: Store, state: StateDir, clock: Clock) -> None:
        self._store = store
        self._state = state
        self._clock = clock
        self.changed: list[Decided] = []  # by the last `apply`: more than a heartbeat

    def apply(self, decided: Sequence[Decided], *, lease_epoch: int) -> tuple[list[str], Effects]:
        """Commit all decisions; return lines for people, and the effects that are now due."""
        for item in decided:
            if any(isinstance(action, RejectResult) for action in item.actions):
                _set_result_aside(self._state.job(item.job.id))
        effects = Effects()
        changes = [(d, a) for d in decided for a in d.actions if not self._is_idle(d, a, effects)]
        # Heartbeats move on all the time; what else is decided is worth a recording.
        told = {id(d) for d, a in changes if not isinstance(a, SeeProgress)}
        acted = {id(job) for job, _ in effects.stops}
        waits = {key for _, key in effects.undelay}
        self.changed = [
            d
            for d in decided
            if id(d) in told or id(d.job) in acted or (waits and d.job.task.key in waits)
        ]
        lines: list[str] = []
        if changes:
            with self._store.writing(lease_epoch):
                for item, action in changes:
                    line = self._change(item, action, effects)
                    if line:
                        lines.append(f"{item.job.name}: {line}")
                hit("apply.before_commit")
            hit("apply.committed")
        return lines, effects

    def _is_idle(self, item: Decided, action: Action, effects: Effects) -> bool:
        """Return whether an action changes nothing in the store; collect it if it is an effect."""
        match action:
            case Notify() | Kill() | CancelTask():
                effects.stops.append((item.job, action))
                return True
            case ReleaseTask():
                effects.releases.append((item.job, action))
                return True
            case Undelay(key=key):
                effects.undelay.append((item.job.task.scheduler, key))
                return True
            case RejectResult():
                return True
        return _changes_nothing(item, action)

    def _change(self, item: Decided, action: Action, effects: Effects) -> str | None:
        store, job = self._store, item.job
        match action:
            case SeeTask():
                store.see_task(action)
            case SeeProgress(heartbeat_at=heartbeat_at):
                self._see_progress(item, heartbeat_at)
            case Move(state=state, reason=reason, cause=cause):
                if store.move(job.id, state, reason=reason, cause=cause):
                    return f"{state}: {reason}"
            case RecordEnd():
                store.add_end(job.id, action, key=job.task.key)
            case CloseTask(task=task):
                store.close_task(task)
            case FinishStop(stop=stop):
                store.stop_done(stop)
            case Complete() | DecideNext() | JudgeHold() | StartAgain() | RequestStop():
                return self._decided(item, action, effects)
        return None

    def _decided(
        self,
        item: Decided,
        action: Complete | DecideNext | JudgeHold | StartAgain | RequestStop,
        effects: Effects,
    ) -> str | None:
        job = item.job
        match action:
            case Complete(result=result, cause=cause):
                self._store.add_result(job.id, result)
                self._store.move(job.id, JobState.COMPLETED, reason="", cause=cause)
                return f"COMPLETED after {item.evidence.epoch or 0} attempts"
            case DecideNext(meaning=meaning):
                return self._decide(job, meaning)
            case StartAgain(anew=anew, cause=cause):
                return self._store.start_again(job.id, anew=anew, cause=cause)
            case JudgeHold(meaning=meaning, key=key):
                return self._judge_hold(job, meaning, key, effects)
            case RequestStop():
                self._request_stop(job, action, effects)
                return f"{action.stop_cause}: {action.cause}"

    def _judge_hold(self, job: JobFacts, end: Meaning, key: TaskKey, effects: Effects) -> str:
        step = self._next_step(job, end)
        if isinstance(step, GiveUp):  # the task, which waits, is cancelled by the next tick
            self._store.move(job.id, JobState.FAILED, reason=step.reason, cause=end.cause)
            return f"FAILED: {step.reason}"
        effects.releases.append((job, ReleaseTask(task=job.task.id, key=key)))
        return f"released: {end.cause}"

    def _see_progress(self, item: Decided, heartbeat_at: float | None) -> None:
        reports = list(item.evidence.reports) + list(item.evidence.problems)
        text = json.dumps(reports)
        self._store.set_progress(
            item.job.id, item.evidence, heartbeat_at=heartbeat_at, reports=text
        )

    def _request_stop(self, job: JobFacts, action: RequestStop, effects: Effects) -> None:
        stop = self._store.add_stop(
            job.id,
            epoch=action.epoch,
            cause=action.stop_cause,
            grace_seconds=action.grace_seconds,
            why=action.cause,
        )
        # Carried out in this very tick: a short job would be over at the next one.
        if action.stop_cause == "stalled":
            kill = Kill(stop=stop, stop_cause=action.stop_cause, key=job.task.key)
            effects.stops.append((job, kill))
        elif action.epoch is not None:
            notify = Notify(
                stop=stop,
                stop_cause=action.stop_cause,
                epoch=action.epoch,
                grace_seconds=action.grace_seconds,
                key=job.task.key,
            )
            effects.stops.append((job, notify))

    def _decide(self, job: JobFacts, end: Meaning) -> str:
        """Commit what follows an end without result; return it in words."""
        step = self._next_step(job, end)
        if isinstance(step, GiveUp):
            self._store.move(job.id, JobState.FAILED, reason=step.reason, cause=end.cause)
            return f"FAILED: {step.reason}"
        due_at = self._clock.wall() + step.delay if step.delay else 0.0
        self._store.set_again(job.id, due_at=due_at, overrides=step.overrides)
        self._store.move(job.id, JobState.RETRYING, reason=step.reason, cause=end.cause)
        return f"RETRYING: {step.reason}"

    def _next_step(self, job: JobFacts, end: Meaning) -> RunAgain | GiveUp:
        return next_step(
            end,
            ends=self._store.ends_of(job.id),
            spec=job.spec,
            overrides=job.overrides,
            history=read_history(self._state.job(job.id)).since(self._store.budget_epoch(job.id)),
        )

    # --- effects

    def notify(
        self, job: JobFacts, action: Notify, scheduler: Scheduler, *, lease_epoch: int
    ) -> str:
        """Write control.json and give the notice; return what happened in words."""
        self._write_control(job, action.epoch, action.stop_cause, action.grace_seconds)
        hit("stop.control_written")
        problem = scheduler.notify(action.key)
        hit("stop.notified")
        if problem is not None:
            return f"{job.name}: the notice could not be given: {problem}"
        with self._store.writing(lease_epoch):
            self._store.stop_notified(action.stop, epoch=action.epoch)
        return f"{job.name}: attempt {action.epoch} has {action.grace_seconds:g} s to save"

    def kill(self, job: JobFacts, action: Kill, scheduler: Scheduler, *, lease_epoch: int) -> str:
        """SIGKILL the attempt's ranks; return what happened in words."""
        problem = scheduler.kill(action.key)
        hit("stop.killed")
        if problem is not None:
            return f"{job.name}: could not be killed: {problem}"
        with self._store.writing(lease_epoch):
            self._store.stop_killed(action.stop)
        return f"{job.name}: killed ({action.stop_cause})"

    def cancel(
        self,
        some: Sequence[tuple[JobFacts, CancelTask]],
        scheduler: Scheduler,
        *,
        lease_epoch: int,
    ) -> list[str]:
        """End tasks of one scheduler at once; return what went wrong in words."""
        for job, action in some:
            if action.epoch is not None and action.stop is not None:
                self._write_control(job, action.epoch, "cancel", None)
        wishes = {action.key: job.spec.run.grace_seconds for job, action in some}
        problems = end_tasks(wishes, scheduler, self._state, now=self._clock.wall())
        hit("cancel.scheduler_asked")
        done = [a.stop for _, a in some if problems[a.key] is None and a.stop is not None]
        if done:
            with self._store.writing(lease_epoch):
                for stop in done:
                    self._store.stop_notified(stop, epoch=None)
        return [
            f"{job.name}: could not be cancelled: {problem}"
            for job, action in some
            if (problem := problems[action.key]) is not None
        ]

    def release(
        self,
        some: Sequence[tuple[JobFacts, ReleaseTask]],
        scheduler: Scheduler,
        *,
        lease_epoch: int,
    ) -> list[str]:
        """Ask a scheduler to let tasks go; return what happened in words."""
        problems = scheduler.release([action.key for _, action in some])
        hit("release.scheduler_asked")
        lines = []
        with self._store.writing(lease_epoch):
            for job, action in some:
                problem = problems.get(action.key)
                words = f"{scheduler.name} does not release it: {problem}" if problem else ""
                asked = job.task.release_wanted
                cause = "asked for by a person" if asked else "the budget allows another launch"
                self._store.release_asked(job.id, action.task, cause=cause, problem=words)
                lines.append(f"{job.name}: {words or 'released at ' + scheduler.name}")
        return lines

    def _write_control(self, job: JobFacts, epoch: int, cause: str, deadline: float | None) -> None:
        control = ControlRecord(
            epoch=epoch, request="stop", cause=_CONTROL_CAUSE[cause], deadline_seconds=deadline
        )
        publish_file(self._state.job(job.id).control, control.to_json())


def _changes_nothing(item: Decided, action: Action) -> bool:
    job, evidence = item.job, item.evidence
    match action:
        case Move(state=state, reason=reason):
            return (state, reason) == (job.state, job.reason)
        case SeeProgress(heartbeat_at=heartbeat_at):
            same = (evidence.epoch, evidence.sequence) == (job.epoch, job.sequence)
            return same and _is_saved(job, heartbeat_at)
        case SeeTask():
            return _unchanged(job, action)
    return False


def _is_saved(job: JobFacts, heartbeat_at: float | None) -> bool:
    """Return whether the store has the last sign of life, or one that is hardly older.

    Decisions are made from the tick's own memory; after a crash an attempt seems to have been
    silent for so much longer, a fraction of what makes it stalled.
    """
    saved = job.heartbeat_saved_at
    if heartbeat_at is None or saved is None:
        return heartbeat_at == job.heartbeat_at
    return 0 <= heartbeat_at - saved < HEARTBEAT_LAG_SECONDS


def _unchanged(job: JobFacts, see: SeeTask) -> bool:
    task = job.task
    return (
        see.seen,
        see.seen_reason,
        see.shown_id,
        see.nodes,
        see.restarts,
        see.absent_count,
        see.absent_since,
        see.running_since,
    ) == (
        task.seen,
        task.seen_reason,
        task.shown_id,
        task.nodes,
        task.restarts,
        task.absent_count,
        task.absent_since,
        task.running_since,
    )


def _set_result_aside(directory: JobDir) -> None:
    """Rename a result.json that is none; its evidence stays (P10)."""
    number = 1
    while (aside := directory.path / f"result.rejected-{number}.json").exists():
        number += 1
    directory.result.rename(aside)
    hit("apply.result_rejected")
