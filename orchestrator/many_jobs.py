"""What the writer does to many jobs at once: a statement each, not a statement a job."""

from __future__ import annotations

from collections.abc import Sequence

from durable.clock import Clock
from jobs.spec import JobSpec, seed_block
from jobs.states import IllegalTransition, JobState, check_transition
from orchestrator.database import Database
from orchestrator.journal import Journal


class ManyJobs:
    """The part of the store that a matrix of 10,000 cells needs to be quick."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self.database = database
        self._clock = clock
        self._journal = Journal(database, clock)

    def job_ids(self) -> frozenset[str]:
        """Return the ids of all jobs."""
        return frozenset(row["id"] for row in self.database.rows("job_ids"))

    def add_jobs(
        self, specs: Sequence[JobSpec], *, matrix: str, priorities: Sequence[int]
    ) -> frozenset[str]:
        """Remember the jobs of a matrix, in its order; return the ids of those that are new.

        The newest matrix that names a job gives its priority.
        """
        at = self._clock.wall()
        known = self.job_ids()
        jobs = [
            {
                "id": spec.id,
                "name": spec.name,
                "spec": spec.to_json().decode(),
                "at": at,
                "total_steps": spec.semantic.total_steps,
                "matrix": matrix,
                "priority": priority,
                "seed_block": seed_block(spec.semantic),
            }
            for spec, priority in zip(specs, priorities, strict=True)
            if spec.id not in known
        ]
        self.database.run_many("job_add", jobs)
        again = zip(specs, priorities, strict=True)
        changes = [{"id": spec.id, "priority": p} for spec, p in again if spec.id in known]
        self.database.run_many("job_priority", changes)
        cells = [{"matrix": matrix, "job": s.id, "position": i} for i, s in enumerate(specs)]
        self.database.run_many("matrix_job_add", cells)
        new = dict.fromkeys(str(job["id"]) for job in jobs)
        about = [{"job": job} for job in new]
        self._journal.append("new", about, cause=f"matrix {matrix}", decision="NEW")
        return frozenset(new)

    def move_all(
        self, jobs: Sequence[str], *, old: JobState, new: JobState, reason: str, cause: str
    ) -> None:
        """Change the state of jobs that are all `old`, as `move` does, in two statements.

        Raises `jobs.states.IllegalTransition`, also when a job has another state.
        """
        check_transition(old, new)
        at = self._clock.wall()
        common = {"state": new, "old": old, "reason": reason, "at": at}
        moved = self.database.run_many("job_move", [{"id": job, **common} for job in jobs])
        if moved != len(jobs):
            raise IllegalTransition(f"{len(jobs) - moved} of {len(jobs)} jobs are not {old}")
        decision = f"{old} -> {new}: {reason}"
        about = [{"job": job} for job in jobs]
        self._journal.append("state", about, cause=cause, decision=decision)

    def explain(self, jobs: Sequence[str], reason: str) -> None:
        """Say why jobs are as they are, where that is not what they say already."""
        values = [{"id": job, "reason": reason} for job in jobs]
        self.database.run_many("job_explain", values)
