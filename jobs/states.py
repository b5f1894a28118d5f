"""States of a job and the transitions between them, as data.

`docs/states.md` is drawn from `TRANSITIONS`; the database refuses states outside `JobState`.
"""

from __future__ import annotations

from enum import StrEnum


class JobState(StrEnum):
    """Where a job is in its life."""

    NEW = "NEW"  # known, not yet handed to a scheduler
    SUBMITTED = "SUBMITTED"  # a submission's intent is committed; its outcome is not known yet
    QUEUED = "QUEUED"  # the scheduler has it and has not started it
    RUNNING = "RUNNING"  # an attempt runs
    RETRYING = "RETRYING"  # an attempt ended without result; the next one is due
    HELD = "HELD"  # a person or a rule stopped it; `orch release` continues
    COMPLETED = "COMPLETED"  # a valid result.json exists
    FAILED = "FAILED"  # a stop rule fired; the reason says which
    CANCELLED = "CANCELLED"  # a person ended it


TERMINAL = frozenset({JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED})
LIVE = frozenset({JobState.SUBMITTED, JobState.QUEUED, JobState.RUNNING})

_S = JobState
TRANSITIONS: dict[JobState, frozenset[JobState]] = {
    _S.NEW: frozenset({_S.SUBMITTED, _S.HELD, _S.CANCELLED, _S.COMPLETED, _S.FAILED}),
    _S.SUBMITTED: frozenset(
        # back to NEW: the scheduler refused, or never had it; no attempt was charged
        {_S.NEW, _S.RETRYING, _S.QUEUED, _S.RUNNING, _S.HELD, _S.CANCELLED, _S.COMPLETED, _S.FAILED}
    ),
    _S.QUEUED: frozenset({_S.RUNNING, _S.RETRYING, _S.HELD, _S.CANCELLED, _S.COMPLETED, _S.FAILED}),
    _S.RUNNING: frozenset(
        # QUEUED: requeued by Slurm under the same id
        {_S.QUEUED, _S.RETRYING, _S.HELD, _S.CANCELLED, _S.COMPLETED, _S.FAILED}
    ),
    _S.RETRYING: frozenset(
        {_S.SUBMITTED, _S.QUEUED, _S.RUNNING, _S.HELD, _S.CANCELLED, _S.COMPLETED, _S.FAILED}
    ),
    _S.HELD: frozenset({_S.NEW, _S.RETRYING, _S.CANCELLED, _S.COMPLETED}),
    # A result is final. A result that arrives late wins over FAILED and CANCELLED (it is valid
    # work); a person may start either again.
    _S.COMPLETED: frozenset(),
    _S.FAILED: frozenset({_S.RETRYING, _S.COMPLETED, _S.CANCELLED}),
    _S.CANCELLED: frozenset({_S.NEW, _S.RETRYING, _S.COMPLETED}),
}


class IllegalTransition(ValueError):
    """A job was asked to make a transition that `TRANSITIONS` does not have."""


def check_transition(old: JobState, new: JobState) -> None:
    """Raise `IllegalTransition` unless `old` may become `new` (staying is always allowed)."""
    if old != new and new not in TRANSITIONS[old]:
        raise IllegalTransition(f"a {old} job cannot become {new}")
