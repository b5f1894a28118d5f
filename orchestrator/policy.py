"""What an attempt's end means, and what follows (DESIGN: the table of that name). Pure.

`classify` weighs three witnesses: a person's or the orchestrator's own request to stop, the
ranks' exit records (they beat the scheduler), and the scheduler's word. `next_step` applies
the budgets; whether there is progress at all is `jobs.retry`'s question.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jobs.contract.exit_codes import AGAIN_CODES, ExitCode
from jobs.contract.records import ExitRecord, Outcome, Overrides, StopCause
from jobs.history import decisive
from jobs.spec import JobSpec
from orchestrator.facts import NO_OVERRIDES, EndClass, EndFacts
from orchestrator.schedulers.base import Known, TaskState

MEMORY_FACTOR = 1.5
DEVICE_OOM_HALVINGS = 2
MAX_DELAY_SECONDS = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """The class of an end and the sentence that explains it."""

    end_class: EndClass
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunAgain:
    """Hand the job over again after `delay` seconds, with these overrides."""

    reason: str
    delay: float = 0.0
    overrides: Overrides = NO_OVERRIDES


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveUp:
    """No further attempt; the reason names the rule and what a person can do."""

    reason: str


_BY_OUTCOME = {
    Outcome.CONFIGURATION: EndClass.CONFIGURATION,
    Outcome.DEVICE_OOM: EndClass.DEVICE_OOM,
    Outcome.EXCEPTION: EndClass.EXCEPTION,
    Outcome.COMPLETED: EndClass.INCOMPLETE,  # it says so, but there is no valid result
    Outcome.FENCED: EndClass.FENCED,
}

_BY_STOP_CAUSE = {
    StopCause.TIME_LIMIT: EndClass.TIME_LIMIT,
    StopCause.CANCEL: EndClass.CANCELLED,
}

_BY_STATE = {
    TaskState.PREEMPTED: EndClass.PREEMPTED,
    TaskState.TIMEOUT: EndClass.TIME_LIMIT,
    TaskState.NODE_FAIL: EndClass.NODE,
    TaskState.LAUNCH_FAILED: EndClass.NODE,
    TaskState.OUT_OF_MEMORY: EndClass.HOST_OOM,
    TaskState.COMPLETED: EndClass.INCOMPLETE,
    # Not by a person: PreemptMode=CANCEL, an administrator's drain.
    TaskState.CANCELLED: EndClass.PREEMPTED,
}

_REQUESTED = {
    "rehearsal": EndClass.PREEMPTED,
    "preemption": EndClass.PREEMPTED,
    "stalled": EndClass.STALLED,
    "cancel": EndClass.CANCELLED,
}


def classify(
    known: Known | None, exits: Sequence[ExitRecord], *, asked: str | None, claimed: bool
) -> Meaning:
    """Return what the end of an attempt means, given that there is no valid result.

    `known`: the scheduler's word; None when it has lost the task. `exits`: the ranks' records.
    `asked`: cause of our own request to stop this attempt, if one was carried out. `claimed`:
    an attempt began.
    """
    if asked == "cancel" or (known and known.state is TaskState.CANCELLED and known.by_person):
        return Meaning(end_class=EndClass.CANCELLED, cause="cancelled by a person")
    told = _by_records(known, exits)
    if told is not None:
        return told
    if asked is not None:
        return Meaning(end_class=_REQUESTED[asked], cause=f"ended by our own {asked}")
    if known is None:
        return Meaning(end_class=EndClass.LOST, cause="the scheduler no longer knows the task")
    if known.state in _BY_STATE:
        return Meaning(end_class=_BY_STATE[known.state], cause=_words(known))
    return _by_exit_code(known, claimed=claimed)


def _by_records(known: Known | None, exits: Sequence[ExitRecord]) -> Meaning | None:
    record = decisive(exits)
    if record is None:
        return None
    who = f"rank {record.rank}: {record.outcome}"
    if record.error is not None:
        message = record.error.message.strip().splitlines()
        who += f": {record.error.type}: {message[0] if message else ''}"
    if record.outcome in _BY_OUTCOME:
        return Meaning(end_class=_BY_OUTCOME[record.outcome], cause=who)
    if record.outcome is Outcome.PEER_LOST:
        return _peer_lost(known, who)
    cause = record.cause
    if cause is None and known is not None and known.state is TaskState.TIMEOUT:
        cause = StopCause.TIME_LIMIT
    end_class = _BY_STOP_CAUSE.get(cause, EndClass.PREEMPTED) if cause else EndClass.PREEMPTED
    return Meaning(end_class=end_class, cause=f"{who} ({cause or StopCause.PREEMPTION})")


def _peer_lost(known: Known | None, who: str) -> Meaning:
    """A rank vanished under the others: the scheduler may know why, else the node is to blame."""
    if known is not None and known.state in (TaskState.OUT_OF_MEMORY, TaskState.PREEMPTED):
        return Meaning(end_class=_BY_STATE[known.state], cause=_words(known))
    return Meaning(end_class=EndClass.NODE, cause=who)


def _by_exit_code(known: Known, *, claimed: bool) -> Meaning:
    code = known.exit_code
    if code == ExitCode.CONFIGURATION:
        return Meaning(end_class=EndClass.CONFIGURATION, cause=_words(known))
    if code in AGAIN_CODES:
        return Meaning(end_class=EndClass.PREEMPTED, cause=_words(known))
    if code == 0:
        return Meaning(end_class=EndClass.INCOMPLETE, cause=_words(known))
    if not claimed:
        return Meaning(end_class=EndClass.LAUNCH, cause=f"{_words(known)}, before it had begun")
    # No rank could write a record: killed without a word, as by a dying node.
    return Meaning(end_class=EndClass.NODE, cause=f"{_words(known)}, without an exit record")


def _words(known: Known) -> str:
    code = "" if known.exit_code is None else f", exit code {known.exit_code}"
    reason = f" ({known.reason})" if known.reason else ""
    return f"the scheduler says {known.state}{code}{reason}"


def next_step(
    end: Meaning, *, ends: Sequence[EndFacts], spec: JobSpec, overrides: Overrides
) -> RunAgain | GiveUp:
    """Return what follows an end without result. `ends` includes this one, oldest first."""
    count = sum(e.end_class is end.end_class for e in ends)
    match end.end_class:
        case EndClass.PREEMPTED | EndClass.TIME_LIMIT | EndClass.FENCED:
            return RunAgain(reason=end.cause, overrides=overrides)
        case EndClass.CONFIGURATION:
            return GiveUp(reason=f"configuration: {end.cause}")
        case EndClass.HOST_OOM:
            return _more_memory(end, spec, overrides)
        case EndClass.DEVICE_OOM:
            return _smaller_micro_batch(end, spec, overrides, count)
        case _:
            return _within_budget(end, ends, spec, overrides, count)


def _within_budget(
    end: Meaning,
    ends: Sequence[EndFacts],
    spec: JobSpec,
    overrides: Overrides,
    count: int,
) -> RunAgain | GiveUp:
    retry = spec.run.retry
    budgets = {
        EndClass.EXCEPTION: (retry.exceptions, "retry.exceptions"),
        EndClass.INCOMPLETE: (retry.incomplete, "retry.incomplete"),
        EndClass.LAUNCH: (retry.restarts_without_progress - 1, "retry.restarts_without_progress"),
    }
    if end.end_class in budgets:
        budget, key = budgets[end.end_class]
    else:  # node, lost, stalled: the machine's fault, one budget
        budget, key = retry.node_failures, "retry.node_failures"
        machine = (EndClass.NODE, EndClass.LOST, EndClass.STALLED)
        count = sum(e.end_class in machine for e in ends)
    if count > budget:
        return GiveUp(
            reason=f"{end.end_class}: {end.cause} (time {count}; {key} allows {budget} more)"
        )
    return RunAgain(
        reason=f"{end.end_class}: {end.cause}",
        delay=min(MAX_DELAY_SECONDS, 2.0 ** (count - 1)),
        overrides=overrides,
    )


def _more_memory(end: Meaning, spec: JobSpec, overrides: Overrides) -> RunAgain | GiveUp:
    current = overrides.memory_gb or spec.run.resources.memory_gb
    cap = spec.run.retry.max_memory_gb
    if cap is None or current >= cap:
        fix = (
            "raise resources.memory_gb, or set retry.max_memory_gb"
            if cap is None
            else f"retry.max_memory_gb is {cap:g}"
        )
        return GiveUp(reason=f"out of memory with {current:g} GB: {fix}")
    memory = min(cap, current * MEMORY_FACTOR)
    return RunAgain(
        reason=f"{end.cause}; now with {memory:g} GB instead of {current:g}",
        overrides=overrides.model_copy(update={"memory_gb": memory}),
    )


def _smaller_micro_batch(
    end: Meaning, spec: JobSpec, overrides: Overrides, count: int
) -> RunAgain | GiveUp:
    current = overrides.micro_batch or spec.semantic.micro_batch
    if current % 2 or count > DEVICE_OOM_HALVINGS:
        return GiveUp(
            reason=f"device out of memory with micro_batch {current}: lower train.micro_batch"
            f" or the model's size ({end.cause})"
        )
    return RunAgain(
        reason=f"{end.cause}; now with micro_batch {current // 2}, same global batch",
        overrides=overrides.model_copy(update={"micro_batch": current // 2}),
    )
