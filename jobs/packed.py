"""A packed allocation: which of its cells run, and what follows when one has left.

    python -P -m jobs.packed begin --submission DIR --allocation N --restarts R
    python -P -m jobs.packed left --submission DIR --index I --restarts R --launch L --code C

`begin` prints the indices to start. `left` leaves with 0 (over, it has its result), 1 (over
without one), 75 (unfinished: the next run of the allocation goes on) or 3 (start it again here).
Whoever runs the cells (the batch script, the local launcher) obeys.

That a cell is over while its neighbours go on is put on record, once; from then on this
submission runs it no more, and the orchestrator may hand its job over anew.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from durable.files import private_dir, publish_new
from jobs.again import judge
from jobs.contract.exit_codes import AGAIN_CODES, ExitCode
from jobs.contract.paths import JobDir, SubmissionDir
from jobs.contract.records import (
    BadRecord,
    DepartureRecord,
    Outcome,
    StopCause,
    TaskRecord,
    TasksRecord,
    read_record,
)
from jobs.history import AttemptHistory, JobHistory, read_history
from jobs.retry import Again, Decision, Stop

# As in the batch script: USR1 and USR2 before the handlers stood.
CELL_AGAIN_CODES = AGAIN_CODES | {138, 140}
_TAIL_BYTES = 4096
_OUT_OF_MEMORY = (b"oom_kill event", b"oom-kill event", b"Out Of Memory")


class Verdict(IntEnum):
    """What follows for a cell that has left; the exit codes of `left`."""

    DONE = 0
    OVER = 1  # without a result
    AGAIN_HERE = 3
    LATER = 75


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One task of a packed allocation, as its submission names it."""

    submission: SubmissionDir
    task: TaskRecord
    restarts: int  # of its allocation

    @property
    def job(self) -> JobDir:
        """The job's directory."""
        return self.submission.state.job(self.task.job)

    def is_ours(self, attempt: AttemptHistory) -> bool:
        """Tell whether this run of the allocation made an attempt."""
        claim = attempt.claim
        if claim is None:
            return False
        return claim.token == self.submission.token and claim.restart_count == self.restarts

    def superseded(self, history: JobHistory) -> bool:
        """Tell whether a copy of this allocation, or another submission, took the job after us."""
        if not history.attempts or (claim := history.attempts[-1].claim) is None:
            return False
        if claim.token == self.submission.token:
            return claim.restart_count > self.restarts
        return any(self.is_ours(attempt) for attempt in history.attempts)

    def departed(self, history: JobHistory) -> bool:
        """Tell whether the cell is over for this submission."""
        try:
            record = read_record(self.submission.departure(self.task.index), DepartureRecord)
        except BadRecord:
            return False
        newest = history.attempts[-1].epoch if history.attempts else 0
        return record is not None and (record.epoch or 0) >= newest

    def dropped(self) -> bool:
        """Tell whether the orchestrator wants it ended."""
        return self.submission.drop(self.task.index).exists()

    def depart(self, history: JobHistory, *, code: int | None, reason: str) -> None:
        """Put on record that this submission runs the cell no more. May raise OSError."""
        record = DepartureRecord(
            index=self.task.index,
            epoch=history.attempts[-1].epoch if history.attempts else None,
            exit_code=code,
            reason=" ".join(reason.split())[:500],
            out_of_memory=code not in (None, 0) and self._out_of_memory(),
        )
        publish_new(self.submission.departure(self.task.index), record.to_json())

    def _out_of_memory(self) -> bool:
        """Tell whether the last that was printed is the scheduler's word of a memory kill."""
        try:
            with self.submission.cell_output(self.task.index).open("rb") as file:
                file.seek(max(0, file.seek(0, 2) - _TAIL_BYTES))
                tail = file.read()
        except OSError:
            return False
        return any(words in tail for words in _OUT_OF_MEMORY)


def read_tasks(submission: SubmissionDir) -> TasksRecord:
    """Return tasks.json. Raises `BadRecord` when it is missing or broken."""
    tasks = read_record(submission.tasks, TasksRecord)
    if tasks is None:
        raise BadRecord(f"{submission.tasks}: missing; --submission must name a submission")
    return tasks


def begin(directory: Path, allocation: int, restarts: int) -> list[int]:
    """Return the indices of the cells to start, in order; put on record which are over.

    Raises `BadRecord` or `OSError` when the submission cannot be read.
    """
    submission = SubmissionDir(directory.absolute())
    private_dir(submission.cells)
    cells = read_tasks(submission).cells_of(allocation)
    return [task.index for task in cells if _begins(submission, task, restarts)]


def _begins(submission: SubmissionDir, task: TaskRecord, restarts: int) -> bool:
    cell = Cell(submission=submission, task=task, restarts=restarts)
    history = read_history(cell.job)
    if cell.departed(history):
        return False
    if cell.dropped():
        cell.depart(history, code=None, reason="ended by the orchestrator before it began")
        return False
    if history.completed:
        cell.depart(history, code=ExitCode.RESULT, reason="it has its result")
        return False
    decision = _judged(cell, restarts - 1) if restarts else None
    if isinstance(decision, Stop):
        cell.depart(history, code=ExitCode.AGAIN, reason=decision.reason)
        return False
    return True


def _judged(cell: Cell, restarts: int) -> Decision | None:
    """Return what the rule says; None where its records cannot be read: no neighbour's fault."""
    try:
        return judge(cell.submission.path, cell.task.index, restarts)
    except (OSError, ValueError):
        return None


def left(directory: Path, index: int, *, restarts: int, launch: int, code: int) -> Verdict:
    """Return what follows for a cell whose `launch`-th launch of this run left with `code`.

    Raises `BadRecord`, `ValueError` or `OSError` when a record cannot be read or written.
    """
    submission = SubmissionDir(directory.absolute())
    task = next((t for t in read_tasks(submission).tasks if t.index == index), None)
    if task is None:
        raise BadRecord(f"{submission.tasks}: has no task of index {index}")
    cell = Cell(submission=submission, task=task, restarts=restarts)
    history = read_history(cell.job)
    if cell.superseded(history):
        return Verdict.OVER  # whoever holds the job speaks for it
    if history.completed:
        cell.depart(history, code=ExitCode.RESULT, reason="it has its result")
        return Verdict.DONE
    if cell.dropped():
        cell.depart(history, code=code, reason="ended by the orchestrator")
        return Verdict.OVER
    if code not in CELL_AGAIN_CODES:
        cell.depart(history, code=code, reason=f"it left with {code}")
        return Verdict.OVER
    decision = judge(submission.path, index, restarts)
    if not isinstance(decision, Again):
        cell.depart(history, code=code, reason=decision.reason)
        return Verdict.OVER
    return Verdict.AGAIN_HERE if _goes_on_here(cell, history, launch) else Verdict.LATER


def _goes_on_here(cell: Cell, history: JobHistory, launch: int) -> bool:
    """Tell whether a cell was asked to leave for itself, and not its whole allocation.

    Only then is it started again at once. What the site does to the allocation, no cell may
    outlast: started within the grace time, it would be killed without a notice of its own.
    """
    ours = [attempt for attempt in history.attempts if cell.is_ours(attempt)]
    end = ours[-1].exit if len(ours) >= launch else None
    if end is None:
        return False
    alone = end.outcome is Outcome.PEER_LOST and end.cause is None
    return alone or end.cause is StopCause.REHEARSAL


def judge_allocation(directory: Path, allocation: int, restarts: int) -> bool:
    """Return whether any cell would go on in another run of the allocation."""
    submission = SubmissionDir(directory.absolute())
    for task in read_tasks(submission).cells_of(allocation):
        cell = Cell(submission=submission, task=task, restarts=restarts)
        history = read_history(cell.job)
        if cell.departed(history) or cell.dropped() or history.completed:
            continue
        if isinstance(_judged(cell, restarts), Again):
            return True
    return False


def main(arguments: Sequence[str] | None = None) -> int:
    """Answer on stdout and by exit code."""
    parser = argparse.ArgumentParser(prog="python -P -m jobs.packed", description=__doc__)
    parser.add_argument("verb", choices=("begin", "left"))
    parser.add_argument("--submission", type=Path, required=True)
    parser.add_argument("--allocation", type=int, default=0)
    parser.add_argument("--index", type=int, default=0)
    parser.add_argument("--restarts", type=int, required=True)
    parser.add_argument("--launch", type=int, default=1)
    parser.add_argument("--code", type=int, default=0)
    options = parser.parse_args(arguments)
    if options.verb == "begin":
        indices = begin(options.submission, options.allocation, options.restarts)
        sys.stdout.write(" ".join(map(str, indices)) + "\n")
        return 0
    verdict = left(
        options.submission,
        options.index,
        restarts=options.restarts,
        launch=options.launch,
        code=options.code,
    )
    sys.stdout.write(f"orch: cell {options.index} left with {options.code}: {verdict.name}\n")
    return int(verdict)


if __name__ == "__main__":
    sys.exit(main())
