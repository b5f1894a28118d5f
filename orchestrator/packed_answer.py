"""What a packed allocation's state means for one of its cells. Pure.

The scheduler knows the allocation alone. A cell that is over while its neighbours go on has its
departure on record, which speaks for it; the exit code of the whole says nothing of one cell.
"""

from __future__ import annotations

from dataclasses import replace

from jobs.contract.exit_codes import AGAIN_CODES
from orchestrator.facts import Departure, Evidence
from orchestrator.schedulers.base import Absent, Answer, Known, TaskKey, TaskState

_NOT_BEGUN = frozenset({TaskState.PENDING, TaskState.DELAYED, TaskState.HELD})
_BY_ITSELF = frozenset({TaskState.COMPLETED, TaskState.FAILED})


def own_answer(key: TaskKey, answer: Answer | None, evidence: Evidence) -> Answer | None:
    """Return the scheduler's answer as it concerns this task; others than cells keep theirs."""
    if key.cell is None or not isinstance(answer, Known | Absent):
        return answer
    gone = evidence.departure
    if gone is not None and not _outlived(key, gone, evidence):
        return _departed(gone, answer, dropped=evidence.dropped)
    if isinstance(answer, Absent):
        return answer
    if evidence.dropped and answer.state in _NOT_BEGUN:
        # Whoever starts the allocation leaves it out.
        return Known(state=TaskState.CANCELLED, by_person=True, reason=answer.reason)
    if answer.state in _BY_ITSELF and answer.exit_code not in AGAIN_CODES:
        return replace(answer, exit_code=None)
    return answer


def _outlived(key: TaskKey, gone: Departure, evidence: Evidence) -> bool:
    """Tell whether another copy of the allocation has the cell: an old node only looked dead."""
    return any(a.token == key.token and a.epoch > (gone.epoch or 0) for a in evidence.attempts)


def _departed(gone: Departure, answer: Known | Absent, *, dropped: bool) -> Known:
    known = answer if isinstance(answer, Known) else Known(state=TaskState.COMPLETING)
    if dropped or gone.exit_code is None:
        state = TaskState.CANCELLED
    elif gone.out_of_memory:
        state = TaskState.OUT_OF_MEMORY
    elif gone.exit_code == 0:
        state = TaskState.COMPLETED
    elif gone.exit_code in AGAIN_CODES:
        state = TaskState.PREEMPTED
    else:
        state = TaskState.FAILED
    return replace(
        known,
        state=state,
        reason=gone.reason,
        exit_code=gone.exit_code,
        by_person=state is TaskState.CANCELLED,
        earlier=None,
        held_by_scheduler=False,
    )
