"""What an attempt's end means (DESIGN: the table of that name). Pure.

`classify` weighs three witnesses: a person's or the orchestrator's own request to stop, the
ranks' exit records (they beat the scheduler), and the scheduler's word. Two things the kernel and
the site know better than any rank: that the host's memory was used up, and which node failed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jobs.contract.exit_codes import AGAIN_CODES, ExitCode
from jobs.contract.records import RESUME_REFUSED, ExitRecord, Outcome, StopCause
from jobs.history import decisive, ran_out_of_memory
from orchestrator.facts import Blame, EndClass
from orchestrator.schedulers.base import Known, TaskState


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """The class of an end, the sentence that explains it, and what it says of the node."""

    end_class: EndClass
    cause: str
    blame: Blame = Blame.NOBODY


_BY_OUTCOME = {
    Outcome.CONFIGURATION: EndClass.CONFIGURATION,
    Outcome.DEVICE_OOM: EndClass.DEVICE_OOM,
    Outcome.EXCEPTION: EndClass.EXCEPTION,
    Outcome.COMPLETED: EndClass.INCOMPLETE,  # it says so, but there is no valid result
    Outcome.FENCED: EndClass.FENCED,
}

# What a rank says when memory went: an allocation failed, or the kernel killed one beside it.
_UNDER_PRESSURE = frozenset({Outcome.EXCEPTION, Outcome.PEER_LOST})

_BY_STOP_CAUSE = {
    StopCause.TIME_LIMIT: EndClass.TIME_LIMIT,
    StopCause.CANCEL: EndClass.CANCELLED,
    StopCause.HOLD: EndClass.HELD,
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

# Why a rank was lost, where the scheduler can tell.
_KNOWS_BETTER = frozenset({TaskState.PREEMPTED, TaskState.TIMEOUT, TaskState.NODE_FAIL})

_REQUESTED = {
    "rehearsal": EndClass.PREEMPTED,
    "preemption": EndClass.PREEMPTED,
    "stalled": EndClass.STALLED,
    "cancel": EndClass.CANCELLED,
    "hold": EndClass.HELD,
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
        blame = Blame.SUSPECT if asked == "stalled" else Blame.NOBODY
        return Meaning(end_class=_REQUESTED[asked], cause=f"ended by our own {asked}", blame=blame)
    if known is None:
        return Meaning(
            end_class=EndClass.LOST,
            cause="the scheduler no longer knows the task",
        )
    if known.state in _BY_STATE:
        return _by_state(known)
    return _by_exit_code(known, claimed=claimed)


def _by_state(known: Known) -> Meaning:
    end_class = _BY_STATE[known.state]
    blame = Blame.CERTAIN if end_class is EndClass.NODE else Blame.NOBODY
    return Meaning(end_class=end_class, cause=_words(known), blame=blame)


def _by_records(known: Known | None, exits: Sequence[ExitRecord]) -> Meaning | None:
    record = decisive(exits)
    if record is None:
        return None
    if record.error is not None and record.error.type == RESUME_REFUSED:
        return Meaning(
            end_class=EndClass.RESUME_REFUSED, cause=" ".join(record.error.message.split())
        )
    who = f"rank {record.rank}: {record.outcome}"
    if record.error is not None:
        message = record.error.message.strip().splitlines()
        who += f": {record.error.type}: {message[0] if message else ''}"
    if record.outcome in _UNDER_PRESSURE and (
        ran_out_of_memory(record) or (known and known.state is TaskState.OUT_OF_MEMORY)
    ):
        return Meaning(end_class=EndClass.HOST_OOM, cause=who)
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
    if known is not None and known.state in _KNOWS_BETTER:
        return _by_state(known)
    return Meaning(end_class=EndClass.NODE, cause=who, blame=Blame.SUSPECT)


def _by_exit_code(known: Known, *, claimed: bool) -> Meaning:
    code = known.exit_code
    if code == ExitCode.CONFIGURATION:
        return Meaning(end_class=EndClass.CONFIGURATION, cause=_words(known))
    if code in AGAIN_CODES:
        return Meaning(end_class=EndClass.PREEMPTED, cause=_words(known))
    if code == 0:
        return Meaning(end_class=EndClass.INCOMPLETE, cause=_words(known))
    if not claimed:
        return Meaning(
            end_class=EndClass.LAUNCH,
            cause=f"{_words(known)}, before it had begun",
            blame=Blame.SUSPECT,
        )
    # No rank could write a record: killed without a word, as by a dying node.
    return Meaning(
        end_class=EndClass.NODE,
        cause=f"{_words(known)}, without an exit record",
        blame=Blame.SUSPECT,
    )


def _words(known: Known) -> str:
    code = "" if known.exit_code is None else f", exit code {known.exit_code}"
    reason = f" ({known.reason})" if known.reason else ""
    return f"the scheduler says {known.state}{code}{reason}"
