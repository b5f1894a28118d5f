"""Colours and order of job states; colour never carries meaning alone."""

from __future__ import annotations

from jobs.states import JobState

_S = JobState

STYLES: dict[JobState, str] = {
    _S.NEW: "dim",
    _S.SUBMITTED: "cyan",
    _S.QUEUED: "cyan",
    _S.RUNNING: "bold blue",
    _S.RETRYING: "yellow",
    _S.HELD: "magenta",
    _S.COMPLETED: "green",
    _S.FAILED: "bold red",
    _S.CANCELLED: "dim",
}

# What a reader looks for first comes first; also the order in which a long listing is cut.
ATTENTION: dict[JobState, int] = {
    state: place
    for place, state in enumerate(
        (
            _S.FAILED,
            _S.RETRYING,
            _S.HELD,
            _S.RUNNING,
            _S.SUBMITTED,
            _S.QUEUED,
            _S.NEW,
            _S.CANCELLED,
            _S.COMPLETED,
        )
    )
}
INTERESTING = frozenset({_S.FAILED, _S.RETRYING, _S.HELD, _S.RUNNING})


def attention_order() -> tuple[JobState, ...]:
    """Return the states that a person should look at, the most urgent first."""
    return tuple(state for state in ATTENTION if state in INTERESTING)


# The life of a job, for summaries: "4 jobs: 2 completed, 1 running, 1 queued".
_SUMMARY = (
    _S.COMPLETED,
    _S.RUNNING,
    _S.RETRYING,
    _S.QUEUED,
    _S.SUBMITTED,
    _S.NEW,
    _S.HELD,
    _S.FAILED,
    _S.CANCELLED,
)


def summary_order() -> tuple[JobState, ...]:
    """Return all states in the order in which summaries name them."""
    return _SUMMARY
