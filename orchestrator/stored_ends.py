"""How attempts ended and which were asked to stop: the second half of what the writer does.

Like all of the store: changes happen inside `writing`, and what is decided leaves an event.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict

from durable.clock import Clock
from orchestrator.actions import RecordEnd
from orchestrator.database import Database
from orchestrator.facts import Blame, EndClass, EndFacts
from orchestrator.many_jobs import ManyJobs
from orchestrator.node_strikes import Exclusion
from orchestrator.schedulers.base import TaskKey

ERROR_MESSAGE = 2000  # characters kept of an error


class StoredEnds(ManyJobs):
    """Ends, stops, kept-off nodes and the journal."""

    def __init__(self, database: Database, clock: Clock) -> None:
        super().__init__(database, clock)
        self._order = 0

    @contextmanager
    def writing(self, lease_epoch: int) -> Iterator[None]:
        """Write atomically under this lease. Raises `LeaseLost`."""
        with self.database.writing(lease_epoch):
            self._journal.lease = lease_epoch
            yield

    def event(
        self,
        kind: str,
        *,
        cause: str,
        decision: str,
        job: str | None = None,
        token: str | None = None,
    ) -> None:
        """Append to the journal."""
        self._journal.append(kind, [{"job": job, "token": token}], cause=cause, decision=decision)

    def add_end(self, job: str, end: RecordEnd, *, key: TaskKey) -> None:
        """Record how an attempt ended; once per epoch."""
        attempt, error = end.attempt, end.attempt.error if end.attempt else None
        values = {
            "job": job,
            "epoch": attempt.epoch if attempt else None,
            "token": attempt.token if attempt else key.token,
            "idx": key.place,
            "class": end.end_class,
            "cause": end.cause,
            "last_step": attempt.last_step if attempt else None,
            "committed_step": attempt.committed_step if attempt else None,
            "at": self._clock.wall(),
            "blame": end.blame,
            "nodes": end.nodes or (attempt.host if attempt else ""),
            "shown_id": attempt.shown_id if attempt else None,
            "started_at": attempt.started_at if attempt else None,
            "left_at": attempt.left_at if attempt else None,
            "spent": attempt.spent.model_dump_json() if attempt and attempt.spent else None,
            "resumed_from": attempt.resumed_from if attempt else None,
            "error_type": error.type if error else None,
            "error_message": error.message[:ERROR_MESSAGE] if error else None,
            "error_digest": error.digest if error else None,
        }
        if self.database.run("end_add", values):
            which = f"attempt {attempt.epoch}" if attempt else "no attempt began"
            decision = f"{which}: {end.end_class}"
            self.event("end", job=job, token=key.token, cause=end.cause, decision=decision)
        self.database.run("job_counts", {"id": job})

    def ends_of(self, job: str) -> tuple[EndFacts, ...]:
        """Return the recorded ends of a job that count against budgets, oldest first."""
        return tuple(
            EndFacts(
                epoch=row["epoch"],
                end_class=EndClass(row["class"]),
                committed_step=row["committed_step"],
                last_step=row["last_step"],
                resumed_from=row["resumed_from"],
                blame=Blame(row["blame"]),
                nodes=row["nodes"],
                at=row["at"],
                error_digest=row["error_digest"],
            )
            for row in self.database.rows("ends_of", {"job": job})
        )

    def set_exclusions(self, wanted: Sequence[Exclusion]) -> None:
        """Remember which nodes tasks keep off; replaces what was known."""
        self.database.run("exclusions_clear", {})
        self.database.run_many("exclusion_add", [asdict(found) for found in wanted])

    def set_excluded(self, task: int, nodes: str) -> None:
        """Remember which nodes a task was told to keep off."""
        self.database.run("task_excluded", {"id": task, "excluded": nodes})

    def set_excluded_of(self, token: str, nodes: str) -> None:
        """Remember which nodes the tasks of a submission were told to keep off."""
        self.database.run("tasks_excluded_of", {"token": token, "excluded": nodes})

    def forgive(self, node: str) -> None:
        """Strikes until now count no longer."""
        self.database.run("forgive", {"node": node, "at": self._clock.wall()})

    def add_stop(
        self, job: str, *, epoch: int | None, cause: str, grace_seconds: float, why: str
    ) -> int:
        """Commit a request to stop an attempt, and return its id; it replaces an open one."""
        at = self._clock.wall()
        self.database.run("stops_done_of", {"job": job, "at": at})
        values = {"job": job, "epoch": epoch, "cause": cause, "grace_seconds": grace_seconds}
        stop = self.database.insert("stop_add", {**values, "at": at})
        self.event("stop", job=job, cause=why, decision=f"{cause} of attempt {epoch or '(next)'}")
        return stop

    def stops_open(self) -> list[sqlite3.Row]:
        """Return the open requests."""
        return self.database.rows("stops_open")

    def rehearsed(self) -> frozenset[str]:
        """Return the jobs that have had their rehearsal."""
        return frozenset(row["job"] for row in self.database.rows("stops_rehearsed"))

    def stop_notified(self, stop: int, *, epoch: int | None) -> None:
        """The notice has gone out."""
        at = self._clock.wall()
        self.database.run("stop_notified", {"id": stop, "at": at, "epoch": epoch})

    def stop_killed(self, stop: int) -> None:
        """The ranks were killed."""
        self.database.run("stop_killed", {"id": stop, "at": self._clock.wall()})

    def stop_done(self, stop: int) -> None:
        """The attempt is no more."""
        self.database.run("stop_done", {"id": stop, "at": self._clock.wall()})

    def stopped_jobs(self) -> list[str]:
        """Return jobs that were stopped after an attempt and have no live task."""
        return [row["id"] for row in self.database.rows("stopped_jobs")]
