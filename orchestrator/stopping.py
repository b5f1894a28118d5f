"""Asking attempts to stop: rehearsals, people's preemptions, holds and cancels, stalls. Pure.

The order is always the site's: the request is committed, control.json and the notice go out,
and only an attempt that still runs when its grace is over is killed. Every step may be
repeated after a crash.
"""

from __future__ import annotations

from collections.abc import Iterator

from jobs.states import JobState
from orchestrator.actions import (
    Action,
    CancelTask,
    FinishStop,
    Kill,
    Notify,
    RequestStop,
)
from orchestrator.facts import Case, Evidence, StopFacts
from orchestrator.schedulers.base import Known, TaskState


def stop_actions(case: Case, known: Known, *, running_since: float | None) -> Iterator[Action]:
    """Yield what a task that is not over needs now, with or without an open request."""
    job = case.job
    if job.stop is None:
        if job.state is JobState.RUNNING and known.state is TaskState.RUNNING:
            yield from _begin(case, running_since or case.now)
        elif job.state is JobState.HELD and known.state is TaskState.RUNNING:
            yield from _hold(case)
    elif job.stop.cause == "cancel":
        yield from _cancel(case, job.stop)
    elif _replaced(job.stop, known, case.evidence):
        yield FinishStop(stop=job.stop.id)
    elif known.state is TaskState.RUNNING:
        yield from _press(case, job.stop)


def _begin(case: Case, running_since: float) -> Iterator[Action]:
    job, evidence, limits = case.job, case.evidence, case.limits
    if evidence.result is not None:
        return
    grace = job.spec.run.grace_seconds
    # An epoch that has ended belongs to an earlier task, or to a try before the requeue.
    if evidence.epoch is None or evidence.epoch == job.ended_epoch:
        if case.now - running_since > limits.start_silent:
            yield RequestStop(
                stop_cause="stalled",
                epoch=None,
                grace_seconds=grace,
                cause=f"running for {limits.start_silent:g} s and no attempt has begun",
            )
        return
    silent = 0.0 if case.heartbeat is None else case.now - case.heartbeat
    if silent > job.spec.run.retry.stalled_minutes * 60.0:
        yield RequestStop(
            stop_cause="stalled",
            epoch=evidence.epoch,
            grace_seconds=grace,
            cause=f"no heartbeat for {silent:.0f} s",
        )
        return
    rehearsal = job.spec.run.rehearsal
    if rehearsal is None or job.rehearsed or evidence.step is None:
        return
    if evidence.step >= rehearsal.at_step and evidence.phase != "finished":
        yield RequestStop(
            stop_cause="rehearsal",
            epoch=evidence.epoch,
            grace_seconds=grace,
            cause=f"step {evidence.step} has reached rehearsal.at_step {rehearsal.at_step}",
        )


def _hold(case: Case) -> Iterator[Action]:
    """Let the attempt of a held job save and leave; a task without one has nothing to save."""
    job, evidence = case.job, case.evidence
    if evidence.result is not None:
        return
    if evidence.epoch is None or evidence.epoch == job.ended_epoch:
        yield CancelTask(key=job.task.key, stop=None, epoch=None, cause="the job is held")
        return
    yield RequestStop(
        stop_cause="hold",
        epoch=evidence.epoch,
        grace_seconds=job.spec.run.grace_seconds,
        cause="held by a person",
    )


def _replaced(stop: StopFacts, known: Known, evidence: Evidence) -> bool:
    """Return whether the attempt that was asked to stop is no more."""
    if known.state in (TaskState.PENDING, TaskState.DELAYED, TaskState.HELD):
        return True
    return stop.epoch is not None and evidence.epoch is not None and evidence.epoch > stop.epoch


def _press(case: Case, stop: StopFacts) -> Iterator[Action]:
    key, epoch = case.job.task.key, case.evidence.epoch
    if stop.cause != "stalled":
        if stop.notified_at is None:
            if epoch is not None:
                yield Notify(
                    stop=stop.id,
                    stop_cause=stop.cause,
                    epoch=epoch,
                    grace_seconds=stop.grace_seconds,
                    key=key,
                )
            return
        if case.now < stop.notified_at + stop.grace_seconds:
            return
    if stop.killed_at is None or case.now - stop.killed_at > case.limits.kill_again:
        yield Kill(stop=stop.id, stop_cause=stop.cause, key=key)


def _cancel(case: Case, stop: StopFacts) -> Iterator[Action]:
    if stop.notified_at is None or case.now - stop.notified_at > case.limits.cancel_again:
        yield CancelTask(
            key=case.job.task.key,
            stop=stop.id,
            epoch=case.evidence.epoch,
            cause="cancelled by a person",
        )
