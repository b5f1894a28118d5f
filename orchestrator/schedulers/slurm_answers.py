"""From the queue's and accounting's rows to an answer for every key. Pure.

An id alone never identifies our task: Slurm re-issues ids after a crash. A row whose name and
comment do not carry the key's token is somebody else's, and our task is `Absent`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

from orchestrator.schedulers.base import (
    OVER,
    Absent,
    Answer,
    EarlierRun,
    Known,
    TaskKey,
    TaskState,
    Unreachable,
)
from orchestrator.schedulers.slurm_options import carries
from orchestrator.schedulers.slurm_parse import RELEASED_BY_RULE, AccountRow, QueueRow
from orchestrator.schedulers.slurm_queries import Accounts

Queue = Mapping[tuple[str, int], QueueRow]


def by_task(rows: Iterable[QueueRow]) -> Queue:
    """Return rows by array id and index; a job that is no array is never ours."""
    return {(row.array_id, row.index): row for row in rows if row.index is not None}


def ours(queue: Queue, key: TaskKey) -> QueueRow | None:
    """Return the key's own row, not that of a stranger with its id."""
    row = queue.get((key.scheduler_id, key.index))
    if row is None or not carries(key.token, name=row.name, comment=row.comment):
        return None
    return row


def needs_accounts(queue: Queue, key: TaskKey) -> bool:
    """Return whether the queue alone cannot answer: the task is over, or not there."""
    row = ours(queue, key)
    return row is None or row.state in OVER or _was_restarted(row)


def _was_restarted(row: QueueRow) -> bool:
    """Return whether Slurm has just put the task back: accounting says why. Both states are short.

    A task that somebody holds may stay so for days and is not asked about.
    """
    return row.state is TaskState.DELAYED or row.reason in RELEASED_BY_RULE


def answer(
    queue: Queue,
    key: TaskKey,
    accounts: Accounts | str | None,
    *,
    site_uids: frozenset[int] = frozenset({0}),
) -> Answer:
    """Return the answer for one key. `accounts`: a string says why there are none.

    `site_uids`: whose cancels are the site's and no person's (root, SlurmUser).
    """
    row = ours(queue, key)
    if row is not None and row.state is None:
        return Unreachable(reason=f"unknown state {row.word[:40]!a} of {name_of(key)}")
    records = _records(accounts, key) if isinstance(accounts, Accounts) else ()
    if row is not None and row.state is not None:
        if row.state not in OVER:
            known = _as_listed(row.state, row.reason, row.nodes)
            if not _was_restarted(row):
                return known
            kept = isinstance(accounts, Accounts) and accounts.kept
            return replace(
                known,
                earlier=_earlier(row, records),
                earlier_awaited=kept and _is_awaited(row, records),
            )
        return _over(row.state, row, records, accounts, site_uids)
    if isinstance(accounts, str):
        return Unreachable(reason=f"not in the queue, and accounting does not answer: {accounts}")
    return _remembered(records, key, site_uids)


@lru_cache(maxsize=4096)  # thousands of tasks run on hundreds of nodes
def _as_listed(state: TaskState, reason: str, nodes: str) -> Known:
    """Return the answer for a task that is in the queue and not over."""
    held = reason in RELEASED_BY_RULE
    return Known(state=state, reason=reason, nodes=nodes, held_by_scheduler=held)


def _earlier(row: QueueRow, records: Sequence[AccountRow]) -> EarlierRun | None:
    """Return how the run before had ended. "REQUEUED" says only that a command brought it back."""
    ended = [record for record in records if _has_ended(record)]
    if not ended:
        return None
    last = ended[-1]
    if row.reason.startswith("launch failed"):
        return EarlierRun(state=TaskState.LAUNCH_FAILED, nodes=last.nodes)
    if last.state is None or last.state not in OVER:
        return None
    return EarlierRun(state=_with_memory(last.state, last), nodes=last.nodes)


def _is_awaited(row: QueueRow, records: Sequence[AccountRow]) -> bool:
    """Return whether accounting does not have the end of the run before yet.

    A task that is put back has a new time of submission; its last run's record has an older one.
    """
    former = [record for record in records if record.submitted < row.submitted]
    return not former or not _has_ended(former[-1])


def _has_ended(record: AccountRow) -> bool:
    return record.state in OVER or record.word == "REQUEUED"


def _with_memory(state: TaskState, last: AccountRow | None) -> TaskState:
    """Return OUT_OF_MEMORY for a failure in which a step used its memory up."""
    failed = state in (TaskState.FAILED, TaskState.CANCELLED)
    return TaskState.OUT_OF_MEMORY if failed and last and last.out_of_memory else state


def _is_persons(last: AccountRow, site_uids: frozenset[int]) -> bool:
    return last.by_uid is not None and last.by_uid not in site_uids


def _over(
    state: TaskState,
    row: QueueRow,
    records: Sequence[AccountRow],
    accounts: Accounts | str | None,
    site_uids: frozenset[int],
) -> Answer:
    """Answer for a task that the queue still lists as over.

    How a task failed and who cancelled it is known to accounting alone, some seconds later.
    """
    last = records[-1] if records and records[-1].state in OVER else None
    needed = state in (TaskState.FAILED, TaskState.CANCELLED)
    if last is None and needed and isinstance(accounts, Accounts) and accounts.kept:
        return Known(
            state=TaskState.COMPLETING,
            reason=f"{row.word}; accounting does not say yet how",
            nodes=row.nodes,
        )
    if last is None and state is TaskState.CANCELLED and not isinstance(accounts, Accounts):
        return Unreachable(reason=f"cancelled, and accounting does not say by whom: {accounts}")
    # Without any accounting nobody can tell, and a cancel is never undone on a guess.
    by_person = state is TaskState.CANCELLED and (last is None or _is_persons(last, site_uids))
    return Known(
        state=state if by_person else _with_memory(state, last),
        reason=row.reason,
        nodes=row.nodes or (last.nodes if last else ""),
        exit_code=_exit_code(state, last),
        by_person=by_person,
    )


def _remembered(records: Sequence[AccountRow], key: TaskKey, site_uids: frozenset[int]) -> Answer:
    """Answer for a task that is not in the queue (any more) by its last record.

    A last record that is not over proves nothing: accounting keeps such rows of jobs that the
    controller has lost.
    """
    if not records:
        return Absent()
    last = records[-1]
    if last.state is None:
        return Unreachable(reason=f"unknown state {last.word[:40]!a} of {name_of(key)}")
    if last.state not in OVER:
        return Absent()
    by_person = last.state is TaskState.CANCELLED and _is_persons(last, site_uids)
    return Known(
        state=last.state if by_person else _with_memory(last.state, last),
        nodes=last.nodes,
        exit_code=_exit_code(last.state, last),
        by_person=by_person,
    )


def _exit_code(state: TaskState, last: AccountRow | None) -> int | None:
    """Return the script's exit code where it means something."""
    if state is TaskState.COMPLETED:
        return 0
    return last.exit_code if last is not None and state is TaskState.FAILED else None


def _records(accounts: Accounts, key: TaskKey) -> tuple[AccountRow, ...]:
    """Return the key's own records, oldest first."""
    rows = accounts.by_task.get((key.scheduler_id, key.index), ())
    return tuple(row for row in rows if carries(key.token, name=row.name, comment=""))


def name_of(key: TaskKey) -> str:
    """Return the task's name in Slurm's words; never the raw id of an array's last task."""
    return f"{key.scheduler_id}_{key.index}"
