"""Questions about single jobs and about failures, for those who only look."""

from __future__ import annotations

from jobs.contract.records import BadRecord, ExitRecord, read_record
from jobs.history import decisive
from jobs.states import TERMINAL
from orchestrator.explanation import Explanation, JobCircumstances, TaskSeen, explain
from orchestrator.failure_groups import FailedJob, FailureGroup, group_failures
from orchestrator.ledger import Ledger
from orchestrator.ledgers import read_ledgers
from orchestrator.reader import Reader
from orchestrator.rows import JobRow
from orchestrator.timeline import AttemptRow, read_timeline

_RANKS_READ = 64


class Inquiry(Reader):
    """A state directory that is asked why."""

    def timeline(self, selector: str) -> tuple[JobRow, tuple[AttemptRow, ...]]:
        """Return one job and its attempts, oldest first. Raises `NotFound`."""
        row, _ = self.job_dir(selector)
        events = self._reading.events(row.id)
        return row, read_timeline(self._database, self.state, row.id, events)

    def explain(self, selector: str) -> tuple[JobRow, Explanation]:
        """Return one job and why it is where it is. Raises `NotFound`."""
        row, attempts = self.timeline(selector)
        wish = self._database.one("job_wish", {"id": row.id})
        assert wish is not None
        facts = JobCircumstances(
            row=row,
            now=self._clock.wall(),
            due_at=wish["due_at"],
            task=self._task(row.id),
            attempts=attempts,
            watcher=self.watcher(),
            seen=self.seen(),
            again_wanted=wish["again_wanted"],
            held_by_person=bool(wish["held_by_person"]),
        )
        return row, explain(facts)

    def _task(self, job: str) -> TaskSeen | None:
        row = self._database.one("task_of_job", {"job": job})
        if row is None:
            return None
        return TaskSeen(
            live=bool(row["live"]),
            scheduler=row["scheduler"],
            submission=row["submission"],
            submission_reason=row["submission_reason"],
            seen=row["seen"],
            seen_reason=row["seen_reason"],
            absent_count=row["absent_count"],
            submitted_at=row["created_at"],
        )

    def entries(self, selector: str | None) -> list[tuple[JobRow, Ledger]]:
        """Return the jobs that have run, each with its ledger. Raises `NotFound`."""
        rows = self.rows(selector)
        ids = None if selector is None else [row.id for row in rows]
        begun = [row.id for row in rows if row.state not in TERMINAL]
        now = self._clock.wall()
        ledgers = dict(read_ledgers(self._database, self.state, ids, running=begun, now=now))
        return [(row, ledgers[row.id]) for row in rows if row.id in ledgers]

    def failures(self, selector: str | None) -> tuple[int, tuple[FailureGroup, ...]]:
        """Return how many jobs are meant, and the failed ones in groups. Raises `NotFound`."""
        ids = self._reading.select(selector)
        total = len(self._reading.rows_of(ids)) if ids is None else len(ids)
        failed = [
            FailedJob(
                id=row["id"],
                name=row["name"],
                reason=row["reason"],
                epoch=row["epoch"],
                end_class=row["class"],
                error_type=row["error_type"],
                error_message=row["error_message"],
                error_digest=row["error_digest"],
            )
            for row in self._database.rows("failed_rows")
            if ids is None or row["id"] in ids
        ]
        return total, group_failures(failed)

    def traceback_of(self, job: FailedJob) -> str:
        """Return the traceback that a failed job left; empty without one."""
        if job.epoch is None:
            return ""
        attempt = self.state.job(job.id).attempt(job.epoch)
        exits = []
        for rank in range(_RANKS_READ):
            try:
                record = read_record(attempt.exit_record(rank), ExitRecord)
            except (BadRecord, OSError):
                continue
            if record is None:
                break
            exits.append(record)
        last = decisive(exits)
        return last.error.traceback if last is not None and last.error is not None else ""
