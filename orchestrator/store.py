"""What the writer does to the database: one method per named statement, in the domain's words.

Every method that changes something must run inside `writing(lease_epoch)`. Each change of a
job's state is checked against `jobs.states` and leaves an event with its cause.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict

from durable.clock import Clock
from jobs.contract.records import Overrides, ResultRecord
from jobs.spec import JobSpec
from jobs.states import JobState, check_transition
from orchestrator.actions import RecordEnd, SeeTask
from orchestrator.database import Database
from orchestrator.facts import Blame, EndClass, EndFacts, Evidence
from orchestrator.many_jobs import ManyJobs
from orchestrator.node_strikes import Exclusion
from orchestrator.schedulers.base import TaskKey

ERROR_MESSAGE = 2000  # characters kept of an error


class Store(ManyJobs):
    """The database as the lease holder uses it."""

    def __init__(self, database: Database, clock: Clock) -> None:
        super().__init__(database, clock)
        self._order = 0

    @contextmanager
    def writing(self, lease_epoch: int) -> Iterator[None]:
        """Write atomically under this lease. Raises `LeaseLost`."""
        with self.database.writing(lease_epoch):
            self._journal.lease = lease_epoch
            yield

    # --- matrices and jobs

    def request_seen(self, name: str) -> bool:
        """Return whether this request has been carried out."""
        return self.database.one("request_seen", {"name": name}) is not None

    def add_request(self, name: str) -> None:
        """Remember that this request has been carried out."""
        self.database.run("request_add", {"name": name, "at": self._clock.wall()})

    def add_matrix(self, *, digest: str, name: str, path: str, cells: int) -> None:
        """Remember a matrix; does nothing when it is known."""
        at = self._clock.wall()
        values = {"digest": digest, "name": name, "path": path, "cells": cells, "at": at}
        self.database.run("matrix_add", values)

    def job_state(self, job: str) -> JobState:
        """Return a job's state."""
        row = self.database.one("job_state", {"id": job})
        if row is None:
            raise KeyError(job)
        return JobState(row["state"])

    def attempts_of(self, job: str) -> int:
        """Return how many attempts have claimed a job."""
        row = self.database.one("job_attempts", {"id": job})
        return int(row["attempts"]) if row else 0

    def spec_of(self, job: str) -> JobSpec:
        """Return a job's spec."""
        row = self.database.one("job_spec", {"id": job})
        if row is None:
            raise KeyError(job)
        return JobSpec.model_validate_json(row["spec"])

    def has_live_task(self, job: str) -> bool:
        """Return whether some scheduler has, or may have, a task of this job."""
        return self.database.one("job_live_task", {"id": job}) is not None

    def move(self, job: str, new: JobState, *, reason: str, cause: str) -> bool:
        """Change a job's state; False when it had this state (then only the reason changes).

        Raises `jobs.states.IllegalTransition`.
        """
        old = self.job_state(job)
        if old is new:
            self.database.run("job_reason", {"id": job, "reason": reason})
            return False
        check_transition(old, new)
        at = self._clock.wall()
        values = {"id": job, "state": new, "old": old, "reason": reason, "at": at}
        self.database.run("job_move", values)
        self.event("state", job=job, cause=cause, decision=f"{old} -> {new}: {reason}")
        return True

    def set_again(self, job: str, *, due_at: float, overrides: Overrides) -> None:
        """Say when and with what the job is handed over next."""
        text = overrides.model_dump_json(exclude_defaults=True)
        self.database.run("job_again", {"id": job, "due_at": due_at, "overrides": text})

    def start_again(self, job: str, *, anew: bool, cause: str) -> str:
        """Let a stopped job be handed over at once; return that in words.

        `anew`: what has ended so far counts against no budget any more.
        """
        tried = self.job_state(job) is JobState.FAILED or self.attempts_of(job) > 0
        self.database.run("job_started_again", {"id": job, "anew": int(anew)})
        new = JobState.RETRYING if tried else JobState.NEW
        words = f"{cause}, budgets whole again" if anew and tried else cause
        self.move(job, new, reason=words, cause=cause)
        return f"{new}: {words}"

    def start_again_if_wanted(self, job: str) -> None:
        """Start a stopped job that a person asked for while its task still lived."""
        wanted = self._wish(job)["again_wanted"]
        if wanted is not None:
            self.start_again(job, anew=wanted == "retry", cause=f"{wanted} by a person")

    def set_wish(self, job: str, *, again: str | None, held: bool) -> None:
        """Remember a person's newest wish: `again` (release, retry) once the task is gone."""
        values = {"id": job, "again_wanted": again, "held_by_person": int(held)}
        self.database.run("job_wish_set", values)

    def held_by_person(self, job: str) -> bool:
        """Return whether a person, not a rule, holds the job."""
        return bool(self._wish(job)["held_by_person"])

    def budget_epoch(self, job: str) -> int:
        """Return the epoch up to which attempts count against no budget."""
        return int(self._wish(job)["budget_epoch"])

    def _wish(self, job: str) -> sqlite3.Row:
        row = self.database.one("job_wish", {"id": job})
        if row is None:
            raise KeyError(job)
        return row

    def set_progress(
        self, job: str, evidence: Evidence, *, heartbeat_at: float | None, reports: str
    ) -> None:
        """Remember what the newest attempt says of itself; `reports` is a JSON list."""
        self.database.run(
            "job_progress",
            {
                "id": job,
                "epoch": evidence.epoch,
                "sequence": evidence.sequence,
                "heartbeat_at": heartbeat_at,
                "step": evidence.step,
                "total_steps": evidence.total_steps,
                "committed_step": evidence.committed_step,
                "phase": evidence.phase,
                "loss": evidence.loss,
                "reports": reports,
                "attempts": evidence.epoch or 0,
            },
        )

    def add_result(self, job: str, result: ResultRecord) -> None:
        """Keep a valid result."""
        self.database.run("result_add", {"job": job, "record": result.model_dump_json()})
        self.database.run("job_finished", {"id": job, "steps": result.steps})

    def to_hand_over(self, now: float) -> list[sqlite3.Row]:
        """Return jobs that are due, in the order of their submission."""
        return self.database.rows("jobs_to_hand_over", {"now": now})

    # --- submissions and tasks

    def next_order(self) -> tuple[int, int]:
        """Return a place among all submissions that no clock can change: lease epoch, count."""
        self._order += 1
        return self.database.mark().lease, self._order

    def add_submission(self, token: str, *, scheduler: str, jobs: Sequence[str]) -> None:
        """Commit the intent: from now on every job has its one live task."""
        at = self._clock.wall()
        self.database.run("submission_add", {"token": token, "scheduler": scheduler, "at": at})
        tasks = [{"token": token, "idx": i, "job": job} for i, job in enumerate(jobs)]
        self.database.run_many("task_add", tasks)
        cause = f"{len(jobs)} due"
        self.event("intent", token=token, cause=cause, decision=f"submit to {scheduler}")

    def settle(self, token: str, state: str, *, scheduler_id: str | None, reason: str) -> None:
        """Record what is known of a submission's outcome."""
        values = {"token": token, "state": state, "scheduler_id": scheduler_id, "reason": reason}
        self.database.run("submission_settle", values)
        self.event("submission", token=token, cause=reason or state, decision=state)

    def set_unseen(self, token: str, unseen: int) -> None:
        """Count complete searches that did not find a submission."""
        self.database.run("submission_unseen", {"token": token, "unseen": unseen})

    def unsettled(self) -> list[sqlite3.Row]:
        """Return submissions whose outcome is not known."""
        return self.database.rows("submissions_unsettled")

    def tasks_of(self, token: str) -> list[sqlite3.Row]:
        """Return the tasks of a submission with their jobs' states."""
        return self.database.rows("tasks_of", {"token": token})

    def live_tasks(self) -> list[sqlite3.Row]:
        """Return live tasks of accepted submissions with their jobs."""
        return self.database.rows("live_tasks")

    def see_task(self, see: SeeTask) -> None:
        """Remember the scheduler's word."""
        self.database.run(
            "task_seen",
            {
                "id": see.task,
                "seen": see.seen,
                "seen_reason": see.seen_reason,
                "shown_id": see.shown_id,
                "nodes": see.nodes,
                "restarts": see.restarts,
                "absent_count": see.absent_count,
                "absent_since": see.absent_since,
                "running_since": see.running_since,
            },
        )

    def held_tasks(self) -> frozenset[str]:
        """Return the jobs whose live task the scheduler holds."""
        return frozenset(row["job"] for row in self.database.rows("tasks_held"))

    def want_release(self, job: str) -> bool:
        """Ask for the release of a task that the scheduler holds; False when it holds none."""
        return bool(self.database.run("task_release", {"job": job}))

    def release_asked(self, job: str, task: int, *, problem: str) -> None:
        """The scheduler was asked to let a task go; `problem` says why it does not."""
        self.database.run("task_release_done", {"id": task})
        decision = problem or "released at the scheduler"
        self.event("release", job=job, cause="asked for by a person", decision=decision)
        if problem:
            self.database.run("job_reason", {"id": job, "reason": problem})

    def close_task(self, task: int) -> None:
        """The scheduler will do nothing more for this task."""
        self.database.run("task_close", {"id": task})

    def close_tasks_of(self, token: str) -> None:
        """The submission never reached the scheduler."""
        self.database.run("tasks_close_of", {"token": token})

    # --- ends and stops

    def add_end(self, job: str, end: RecordEnd, *, key: TaskKey) -> None:
        """Record how an attempt ended; once per epoch."""
        attempt, error = end.attempt, end.attempt.error if end.attempt else None
        values = {
            "job": job,
            "epoch": attempt.epoch if attempt else None,
            "token": attempt.token if attempt else key.token,
            "idx": key.index,
            "class": end.end_class,
            "cause": end.cause,
            "last_step": attempt.last_step if attempt else None,
            "committed_step": attempt.committed_step if attempt else None,
            "at": self._clock.wall(),
            "blame": end.blame,
            "nodes": end.nodes,
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

    # --- events and questions

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

    def open_jobs(self) -> int:
        """Return how many jobs are neither terminal nor held."""
        row = self.database.one("jobs_open_count")
        return int(row[0]) if row else 0

    def busy(self) -> bool:
        """Return whether anything is left to do or to wait for."""
        row = self.database.one("busy")
        return bool(row and row[0])
