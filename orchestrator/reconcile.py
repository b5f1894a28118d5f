"""From what is known of one job to what is to be done about it. Pure: values in, values out.

A failed query is no observation: it changes nothing (P6). A valid result wins over whatever
the scheduler says. A task that is over, or surely lost, frees the job for the next attempt;
nothing else does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from jobs.states import TERMINAL, JobState
from orchestrator.actions import (
    Action,
    CancelTask,
    CloseTask,
    Complete,
    DecideNext,
    FinishStop,
    JudgeHold,
    Move,
    RecordEnd,
    RejectResult,
    ReleaseTask,
    SeeProgress,
    SeeTask,
    StartAgain,
    Undelay,
)
from orchestrator.classification import Meaning, classify
from orchestrator.facts import (
    AttemptFacts,
    Blame,
    Case,
    EndClass,
    Evidence,
    JobFacts,
    Limits,
    Patience,
)
from orchestrator.packed_answer import own_answer
from orchestrator.schedulers.base import OVER, Absent, Answer, Known, TaskState, Unreachable
from orchestrator.stopping import stop_actions

WAITING = frozenset({TaskState.PENDING, TaskState.DELAYED, TaskState.HELD})
AGAIN_WORDS = "started again by a person"
# Ends after which Slurm puts a task back by itself, and that say more than "requeued".
_TELLING = frozenset(
    {
        TaskState.PREEMPTED,
        TaskState.NODE_FAIL,
        TaskState.TIMEOUT,
        TaskState.LAUNCH_FAILED,
        TaskState.OUT_OF_MEMORY,
    }
)
_REQUEUED = Known(state=TaskState.PREEMPTED, reason="requeued; the attempt left no exit record")


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """When the decision is made. `resumed`: time stood still before; deadlines start anew."""

    now: float
    resumed: bool = False


def reconcile(
    job: JobFacts,
    answer: Answer | None,
    evidence: Evidence,
    moment: Moment,
    *,
    patience: Patience,
    limits: Limits,
) -> tuple[Action, ...]:
    """Return the actions for one job with a live task, in the order to carry them out."""
    answer = own_answer(job.task.key, answer, evidence)
    case = Case(
        job=job,
        evidence=evidence,
        now=moment.now,
        resumed=moment.resumed,
        heartbeat=_heartbeat(job, answer, evidence, moment),
        patience=patience,
        limits=limits,
    )
    actions: list[Action] = [SeeProgress(heartbeat_at=case.heartbeat)]
    if evidence.result is not None and job.state is not JobState.COMPLETED:
        actions.append(Complete(result=evidence.result, cause="a valid result.json exists"))
    match answer:
        case None | Unreachable():
            pass
        case Known(state=state) if state in OVER:
            actions.append(_see(case, answer))
            actions += _end(case, answer)
        case Known():
            actions += _alive(case, answer)
        case Absent():
            actions += _absent(case)
    return tuple(actions)


def _heartbeat(
    job: JobFacts, answer: Answer | None, evidence: Evidence, moment: Moment
) -> float | None:
    """Return when, by our clock, the attempt last gave a sign of life."""
    newer = evidence.touched or (evidence.epoch, evidence.sequence) != (job.epoch, job.sequence)
    started = isinstance(answer, Known) and answer.state is not job.task.seen
    frozen = isinstance(answer, Known) and answer.state is TaskState.SUSPENDED
    if newer or started or frozen or moment.resumed or job.heartbeat_at is None:
        return moment.now
    return job.heartbeat_at


def _see(case: Case, known: Known) -> SeeTask:
    task = case.job.task
    running = known.state is TaskState.RUNNING
    return SeeTask(
        task=task.id,
        seen=known.state,
        seen_reason=known.reason,
        shown_id=known.task_id or f"{task.key.scheduler_id}_{task.key.index}",
        nodes=known.nodes,
        restarts=known.restarts,
        absent_count=0,
        absent_since=None,
        running_since=(task.running_since or case.now) if running else None,
    )


def _alive(case: Case, known: Known) -> Iterator[Action]:
    job, evidence = case.job, case.evidence
    see = _see(case, known)
    yield see
    waiting = known.state in WAITING
    witness, awaited = _witness(known), _end_is_awaited(job, known, evidence)
    for attempt in evidence.attempts:
        # A waiting task has no attempt. Only those that an earlier tick had seen count: the
        # newest may have begun after the scheduler was asked.
        seen_before = job.epoch is not None and attempt.epoch <= job.epoch
        if attempt.epoch != evidence.epoch or (waiting and seen_before and not awaited):
            yield _record(job, attempt, witness)
    finished = evidence.result is not None or job.state in TERMINAL
    unwanted = waiting or job.state is JobState.CANCELLED
    if unwanted and finished and job.stop is None:
        yield CancelTask(key=job.task.key, stop=None, epoch=None, cause="the job is over")
    elif job.state is JobState.HELD:
        if waiting and job.stop is None:
            yield CancelTask(key=job.task.key, stop=None, epoch=None, cause="the job is held")
    elif not finished:
        yield from _follow(job, known, awaited=awaited)
    yield from stop_actions(case, known, running_since=see.running_since)


def _follow(job: JobFacts, known: Known, *, awaited: bool) -> Iterator[Action]:
    if known.state in WAITING:
        words = known.reason or known.state.value
        yield Move(state=JobState.QUEUED, reason=f"waits: {words}", cause=known.state.value)
        if known.state is TaskState.DELAYED and not awaited:
            yield Undelay(key=job.task.key)
        if known.state is TaskState.HELD and known.held_by_scheduler:
            yield from _held(job, known)
        elif known.state is TaskState.HELD and job.task.release_wanted:
            yield ReleaseTask(task=job.task.id, key=job.task.key)
    elif known.state in (TaskState.RUNNING, TaskState.SUSPENDED):
        where = f" on {known.nodes}" if known.nodes else ""
        yield Move(state=JobState.RUNNING, reason=f"{known.state}{where}", cause=known.state.value)
    # COMPLETING is neither running nor over: it keeps the state it has.


def _end_is_awaited(job: JobFacts, known: Known, evidence: Evidence) -> bool:
    """Return whether to wait one look more for accounting to say how the last run had ended.

    Only where the attempt itself left nothing that says it: after the loss of its node, which
    would else be taken for a command's requeue and get the job again at once.
    """
    return (
        known.earlier_awaited
        and job.task.seen is not TaskState.DELAYED
        and any(not attempt.exits for attempt in evidence.attempts[-1:])
    )


def _held(job: JobFacts, known: Known) -> Iterator[Action]:
    """Yield what follows where Slurm holds a task after launches that failed on a node.

    Each hold costs the budget once; what a person or an administrator holds stays held.
    """
    if job.task.seen is not TaskState.HELD or job.task.seen_reason != known.reason:
        nodes = known.earlier.nodes if known.earlier else ""
        meaning = Meaning(
            end_class=EndClass.NODE,
            cause=f"the scheduler holds it: {known.reason}",
            blame=Blame.CERTAIN,
        )
        yield RecordEnd(
            end_class=meaning.end_class,
            cause=meaning.cause,
            blame=meaning.blame,
            attempt=None,
            nodes=nodes,
        )
        yield JudgeHold(meaning=meaning, key=job.task.key)
    else:
        yield ReleaseTask(task=job.task.id, key=job.task.key)


def _absent(case: Case) -> Iterator[Action]:
    task, patience = case.job.task, case.patience
    count = task.absent_count + 1
    anew = task.absent_since is None or case.resumed
    since = case.now if anew or task.absent_since is None else task.absent_since
    yield SeeTask(
        task=task.id,
        seen=task.seen,
        seen_reason=f"absent from {count} complete listings",
        shown_id=task.shown_id,
        nodes=task.nodes,
        restarts=task.restarts,
        absent_count=count,
        absent_since=since,
        running_since=task.running_since,
    )
    if count < patience.absent_answers or case.now - since < patience.absent_seconds:
        return
    alive = (
        patience.absent_seconds > 0
        and case.evidence.sequence >= 0
        and case.heartbeat is not None
        and case.now - case.heartbeat < case.limits.heartbeat_fresh
    )
    if case.evidence.result is not None or not alive:
        yield from _end(case, None)


def _end(case: Case, known: Known | None) -> Iterator[Action]:
    """Yield what follows when the scheduler will do nothing more for the task."""
    job, evidence = case.job, case.evidence
    # A job has one task in a submission, so the token alone tells whose attempt it is.
    mine = [a for a in evidence.attempts if a.token == job.task.key.token]
    last = mine[-1] if mine else None
    for attempt in evidence.attempts:
        if attempt is not last:
            yield _record(job, attempt, _REQUEUED)
    meaning = _meaning(job, known, evidence, last)
    if last is not None or meaning.end_class is not EndClass.COMPLETED:
        yield RecordEnd(
            end_class=meaning.end_class,
            cause=meaning.cause,
            blame=meaning.blame,
            attempt=last,
            nodes=(known.nodes if known else "") or job.task.nodes,
        )
    yield CloseTask(task=job.task.id, cause=meaning.cause)
    if job.stop is not None:
        yield FinishStop(stop=job.stop.id)
    if evidence.result is not None or job.state is JobState.COMPLETED:
        return
    if job.state in TERMINAL or job.state is JobState.HELD:
        if job.again_wanted is not None:
            words = "released by a person" if job.again_wanted == "release" else AGAIN_WORDS
            yield StartAgain(anew=job.again_wanted == "retry", cause=words)
        return
    if meaning.end_class is EndClass.CANCELLED:
        yield Move(state=JobState.CANCELLED, reason=meaning.cause, cause=meaning.cause)
        return
    if evidence.result_rejected is not None:
        yield RejectResult(cause=evidence.result_rejected)
    yield DecideNext(meaning=meaning)


def _meaning(
    job: JobFacts, known: Known | None, evidence: Evidence, attempt: AttemptFacts | None
) -> Meaning:
    if evidence.result is not None:
        return Meaning(end_class=EndClass.COMPLETED, cause="a valid result.json exists")
    if evidence.result_rejected is not None:
        return Meaning(end_class=EndClass.INCOMPLETE, cause=evidence.result_rejected)
    exits = attempt.exits if attempt else ()
    asked = _asked(job, attempt.epoch if attempt else None)
    meaning = classify(known, exits, asked=asked, claimed=attempt is not None)
    if job.state is JobState.HELD and meaning.end_class is EndClass.CANCELLED:
        return Meaning(end_class=EndClass.HELD, cause="held by a person")
    return meaning


def _witness(known: Known) -> Known:
    """Return the scheduler's word on the run before, of a task that it has put back."""
    earlier = known.earlier
    if earlier is None or earlier.state not in _TELLING:
        return _REQUEUED
    return Known(state=earlier.state, reason="then requeued", nodes=earlier.nodes)


def _record(job: JobFacts, attempt: AttemptFacts, witness: Known) -> RecordEnd:
    """Return the end of an attempt that a newer one, or a requeue, has replaced."""
    asked = _asked(job, attempt.epoch)
    meaning = classify(witness, attempt.exits, asked=asked, claimed=True)
    return RecordEnd(
        end_class=meaning.end_class,
        cause=meaning.cause,
        blame=meaning.blame,
        attempt=attempt,
        nodes=witness.nodes or job.task.nodes,
    )


def _asked(job: JobFacts, epoch: int | None) -> str | None:
    """Return the cause of our own request, if one was carried out on this attempt."""
    stop = job.stop
    if stop is None or (stop.notified_at is None and stop.killed_at is None):
        return None
    return stop.cause if stop.epoch in (None, epoch) else None
