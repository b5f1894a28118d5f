"""What the writer does to the database: one method per named statement, in the domain's words.

Every method that changes something must run inside `writing(lease_epoch)`. Each change of a
job's state is checked against `jobs.states` and leaves an event with its cause.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from jobs.contract.records import Overrides, ResultRecord
from jobs.spec import JobSpec
from jobs.states import JobState, check_transition
from orchestrator.actions import SeeTask
from orchestrator.facts import Evidence
from orchestrator.stored_ends import StoredEnds


class Store(StoredEnds):
    """The database as the lease holder uses it."""

    # --- matrices and jobs

    def request_seen(self, name: str) -> bool:
        """Return whether this request has been carried out."""
        return self.database.one("request_seen", {"name": name}) is not None

    def add_request(self, name: str) -> None:
        """Remember that this request has been carried out."""
        self.database.run("request_add", {"name": name, "at": self._clock.wall()})

    def add_matrix(
        self, *, digest: str, name: str, path: str, cells: int, max_in_flight: int | None = None
    ) -> None:
        """Remember a matrix as the newest record of its name."""
        values = {"digest": digest, "name": name, "path": path, "cells": cells}
        values |= {"at": self._clock.wall(), "max_in_flight": max_in_flight}
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

    def overrides_of(self, job: str) -> Overrides:
        """Return what the next submission of a job changes about it."""
        row = self.database.one("job_overrides", {"id": job})
        if row is None:
            raise KeyError(job)
        return Overrides.model_validate_json(row["overrides"])

    def set_overrides(self, job: str, overrides: Overrides) -> None:
        """Say what the next submission of a job changes about it."""
        text = overrides.model_dump_json(exclude_defaults=True)
        self.database.run("job_overrides_set", {"id": job, "overrides": text})

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
        wanted = self.again_wanted(job)
        if wanted is not None:
            self.start_again(job, anew=wanted == "retry", cause=f"{wanted} by a person")

    def set_wish(self, job: str, *, again: str | None, held: bool) -> None:
        """Remember a person's newest wish: `again` (release, retry) once the task is gone."""
        values = {"id": job, "again_wanted": again, "held_by_person": int(held)}
        self.database.run("job_wish_set", values)

    def again_wanted(self, job: str) -> str | None:
        """Return by which wish a stopped job goes on once its task is gone; None: by none."""
        wanted = self._wish(job)["again_wanted"]
        return None if wanted is None else str(wanted)

    def going_on(self) -> frozenset[str]:
        """Return the stopped jobs that go on once their tasks are gone."""
        return frozenset(row["id"] for row in self.database.rows("jobs_going_on"))

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

    # --- submissions and tasks

    def next_order(self) -> tuple[int, int]:
        """Return a place among all submissions that no clock can change: lease epoch, count."""
        self._order += 1
        return self.database.mark().lease, self._order

    def add_submission(
        self, token: str, *, scheduler: str, jobs: Sequence[str], pack: int = 1
    ) -> None:
        """Commit the intent: from now on every job has its one live task."""
        at = self._clock.wall()
        values = {"token": token, "scheduler": scheduler, "at": at, "pack": pack}
        self.database.run("submission_add", values)
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

    def release_asked(self, job: str, task: int, *, cause: str, problem: str) -> None:
        """The scheduler was asked to let a task go; `problem` says why it does not.

        The same problem again leaves no further event: it is asked at every tick.
        """
        self.database.run("task_release_done", {"id": task})
        decision = problem or "released at the scheduler"
        last = self.database.one("event_last", {"job": job})
        if not problem or last is None or last["decision"] != decision:
            self.event("release", job=job, cause=cause, decision=decision)
        if problem:
            self.database.run("job_reason", {"id": job, "reason": problem})

    def close_task(self, task: int) -> None:
        """The scheduler will do nothing more for this task."""
        self.database.run("task_close", {"id": task})

    def close_tasks_of(self, token: str) -> None:
        """The submission never reached the scheduler."""
        self.database.run("tasks_close_of", {"token": token})

    # --- questions

    def open_jobs(self) -> int:
        """Return how many jobs are neither terminal nor held."""
        row = self.database.one("jobs_open_count")
        return int(row[0]) if row else 0

    def busy(self) -> bool:
        """Return whether anything is left to do or to wait for."""
        row = self.database.one("busy")
        return bool(row and row[0])
