"""A job's attempts in order: where and when each ran, what it gained and lost, what followed."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from jobs.contract.paths import StateDir, parse_checkpoint_name
from jobs.contract.records import Spent
from orchestrator.database import Database
from orchestrator.rows import EventRow


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRow:
    """One attempt, or a task that ended before it became one. Times are wall clock seconds."""

    epoch: int | None  # None: no attempt began
    scheduler: str | None
    scheduler_id: str | None
    nodes: str
    queued_at: float | None  # its submission was handed over
    started_at: float | None
    ended_at: float | None  # None: it runs
    first_step: int  # where it began
    last_step: int | None
    committed_step: int | None  # newest step safe on disk
    end_class: str | None
    cause: str = ""
    decision: str = ""  # what followed
    error_type: str | None = None
    spent: Spent | None = None

    @property
    def steps_gained(self) -> int:
        """Steps that it made durable."""
        return max(0, (self.committed_step or 0) - self.first_step)

    @property
    def steps_lost(self) -> int:
        """Steps that it did and that were not safe when it ended; none while it runs."""
        if self.ended_at is None or self.last_step is None:
            return 0
        return max(0, self.last_step - max(self.committed_step or 0, self.first_step))


def read_timeline(
    database: Database, state: StateDir, job: str, events: Sequence[EventRow]
) -> tuple[AttemptRow, ...]:
    """Return a job's attempts, oldest first; one that runs is the last and has no end."""
    followed = what_followed((event.kind, event.decision) for event in events)
    ended = ended_attempts(database.rows("attempts_of", {"job": job}), followed)
    running = running_attempt(database, state, job, {one.epoch for one in ended})
    return (*ended, *([running] if running else []))


def ended_attempts(rows: Sequence[sqlite3.Row], followed: Sequence[str]) -> tuple[AttemptRow, ...]:
    """Return the recorded ends of a job, each with what followed it where that is known."""
    return tuple(
        _ended(row, followed[index] if index < len(followed) else "")
        for index, row in enumerate(rows)
    )


def what_followed(events: Iterable[tuple[str, str]]) -> list[str]:
    """Return, for each recorded end, the job's next change of state in words. Pure.

    `events`: kinds and decisions, oldest first. Ends and their events are written together, so the
    n-th of both belong together.
    """
    found: list[str] = []
    awaited = 0
    for kind, decision in events:
        if kind == "end":
            found.append("")
            awaited = len(found)
        elif kind == "state" and awaited:
            found[awaited - 1] = decision.partition(" -> ")[2] or decision
            awaited = 0
    return found


def _ended(row: sqlite3.Row, decision: str) -> AttemptRow:
    return AttemptRow(
        epoch=row["epoch"],
        scheduler=row["scheduler"],
        scheduler_id=row["shown_id"],
        nodes=row["nodes"],
        queued_at=row["queued_at"],
        started_at=row["started_at"],
        ended_at=row["left_at"] or row["at"],
        first_step=step_of(row["resumed_from"]),
        last_step=row["last_step"],
        committed_step=row["committed_step"],
        end_class=row["class"],
        cause=row["cause"],
        decision=decision,
        error_type=row["error_type"],
        spent=Spent.model_validate_json(row["spent"]) if row["spent"] else None,
    )


def running_attempt(
    database: Database, state: StateDir, job: str, ended: Collection[int | None]
) -> AttemptRow | None:
    """Return the attempt that runs, by its job directory; None: none does."""
    from orchestrator.evidence import newest_epoch, read_attempt

    task = database.one("task_of_job", {"job": job})
    directory = state.job(job)
    epoch = newest_epoch(directory)
    if task is None or not task["live"] or epoch is None or epoch in ended:
        return None
    facts = read_attempt(directory, epoch)
    if facts is None or facts.token != task["token"]:
        return None
    return AttemptRow(
        epoch=epoch,
        scheduler=task["scheduler"],
        scheduler_id=facts.shown_id,
        nodes=task["nodes"] or facts.host,
        queued_at=task["created_at"],
        started_at=facts.started_at,
        ended_at=None,
        first_step=step_of(facts.resumed_from),
        last_step=facts.last_step,
        committed_step=facts.committed_step,
        end_class=None,
        spent=facts.spent,
    )


def step_of(checkpoint: str | None) -> int:
    """Return the step of a checkpoint by its name; 0 without one."""
    parsed = parse_checkpoint_name(checkpoint) if checkpoint else None
    return parsed[1] if parsed else 0
