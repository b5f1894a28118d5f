"""From directories to rows: what each job's attempts and submissions say it is now.

Runs once, in one transaction, over a store that knows the jobs and what people wished of them.
"""

from __future__ import annotations

from collections.abc import Sequence

from durable.clock import Clock
from jobs.archive import AttemptArchive
from jobs.contract.paths import StateDir
from jobs.contract.records import EpochRecord, Overrides
from jobs.history import decisive, read_history
from jobs.states import JobState
from orchestrator.actions import RecordEnd
from orchestrator.classification import Meaning, classify
from orchestrator.evidence import read_evidence
from orchestrator.facts import AttemptFacts, EndClass, EndFacts, Evidence
from orchestrator.policy import GiveUp, next_step
from orchestrator.remains import PastSubmission, newest_of_jobs
from orchestrator.schedulers.base import Known, TaskKey, TaskState
from orchestrator.store import Store

_CAUSE = "the database was rebuilt"
_REPLACED = Known(state=TaskState.PREEMPTED, reason="another attempt followed; it left no record")


class Rebuilding:
    """Fills tasks, ends, results and states. Everything inside `writing`."""

    def __init__(
        self, store: Store, state: StateDir, clock: Clock, submissions: Sequence[PastSubmission]
    ) -> None:
        self._store = store
        self._state = state
        self._clock = clock
        self._submissions = submissions
        self._known = frozenset(row["id"] for row in store.database.rows("job_ids"))
        self._scheduler_ids: dict[str, str] = {}
        self.problems: list[str] = []
        self.looked_for = 0

    def run(self) -> None:
        """Fill everything."""
        newest = newest_of_jobs(self._submissions)
        live = {job for job in sorted(self._known) if self._add_job(job, newest.get(job))}
        for past in self._submissions:
            self._add_submission(past, live={job for job in live if newest[job] is past})
        strangers = len(set(newest) - self._known)
        if strangers:
            self.problems.append(
                f"{strangers} jobs were handed over once, but no kept matrix has them: left alone"
            )

    def _add_job(self, job: str, past: PastSubmission | None) -> bool:
        """Fill what the directory tells; return whether a task of the job may live."""
        spec = self._store.spec_of(job)
        found = read_evidence(self._state.job(job), spec, ended_epoch=None)
        self.problems += found.problems
        self._scheduler_ids |= self._claims(job, found)
        heartbeat = self._clock.wall() if found.epoch is not None else None
        self._store.set_progress(job, found, heartbeat_at=heartbeat, reports="[]")
        overrides = past.overrides.get(job, Overrides()) if past else Overrides()
        self._store.set_again(job, due_at=0.0, overrides=overrides)
        *earlier, last = found.attempts or (None,)
        for attempt in earlier:
            if attempt is not None:
                self._add_end(job, attempt, _replaced(attempt), past)
        if found.result is not None:
            if last is not None:
                cause = "a valid result.json exists"
                self._add_end(job, last, Meaning(end_class=EndClass.COMPLETED, cause=cause), past)
            self._store.add_result(job, found.result)
            self._store.move(job, JobState.COMPLETED, reason="", cause=_CAUSE)
            return False
        if last is not None and (past is None or last.token != past.token):
            self._add_end(job, last, _replaced(last), past)
            last = None
        if past is None:
            return False
        if last is not None and (verdict := self._verdict(job, last, overrides)) is not None:
            meaning, reason = verdict
            self._add_end(job, last, meaning, past)
            if self._store.job_state(job) not in (JobState.CANCELLED, JobState.HELD):
                self._store.move(job, JobState.FAILED, reason=reason, cause=_CAUSE)
            return False
        self._wait(job, past)
        return True

    def _verdict(
        self, job: str, last: AttemptFacts, overrides: Overrides
    ) -> tuple[Meaning, str] | None:
        """Return how the newest attempt ended and which rule stops the job, if one does.

        Every other end may live on at the scheduler: a script that brings its task back leaves
        the same records, and what a tick decides needs the scheduler's word.
        """
        if decisive(last.exits) is None:
            return None
        meaning = classify(None, last.exits, asked=None, claimed=True)
        this = EndFacts(
            epoch=last.epoch,
            end_class=meaning.end_class,
            committed_step=last.committed_step,
            last_step=last.last_step,
            resumed_from=last.resumed_from,
            error_digest=last.error.digest if last.error else None,
        )
        step = next_step(
            meaning,
            ends=(*self._store.ends_of(job), this),
            spec=self._store.spec_of(job),
            overrides=overrides,
            history=read_history(self._state.job(job)),
        )
        return (meaning, step.reason) if isinstance(step, GiveUp) else None

    def _claims(self, job: str, found: Evidence) -> dict[str, str]:
        """Return scheduler ids by token, as attempts knew them; array ids name the whole array."""
        ids = {}
        for attempt in found.attempts:
            directory = self._state.job(job)
            claim = directory.epoch(attempt.epoch)
            try:
                said = claim.read_bytes()
            except FileNotFoundError:
                said = AttemptArchive.of(directory).read(claim) or b""
            scheduler_id = _scheduler_id(said)
            if scheduler_id:
                ids[attempt.token] = scheduler_id
        return ids

    def _add_submission(self, past: PastSubmission, *, live: set[str]) -> None:
        database = self._store.database
        known = {index: job for index, job in past.jobs.items() if job in self._known}
        scheduler_id = self._scheduler_ids.get(past.token)
        state = "uncertain" if live else "accepted" if scheduler_id else "lost"
        values = {
            "token": past.token,
            "scheduler": past.scheduler,
            "state": state,
            "scheduler_id": scheduler_id if state == "accepted" else None,
            "reason": f"{_CAUSE}: looked for by its token" if live else _CAUSE,
            "pack": past.pack,
            "at": self._clock.wall(),  # from now on it may hide for the scheduler's patience
        }
        database.run("rebuild_submission", values)
        for index, job in known.items():
            task = {"token": past.token, "idx": index, "job": job, "live": int(job in live)}
            database.run("rebuild_task", task)
        self.looked_for += bool(live)

    def _add_end(
        self, job: str, attempt: AttemptFacts, meaning: Meaning, past: PastSubmission | None
    ) -> None:
        index = next((i for i, j in past.jobs.items() if j == job), 0) if past else 0
        end = RecordEnd(
            end_class=meaning.end_class, cause=meaning.cause, blame=meaning.blame, attempt=attempt
        )
        key = TaskKey(token=attempt.token, scheduler_id="", index=index)
        self._store.add_end(job, end, key=key)

    def _wait(self, job: str, past: PastSubmission) -> None:
        """Let a job whose task may live wait until the scheduler was asked."""
        state = self._store.job_state(job)
        if state is JobState.CANCELLED:
            why = "cancelled by a person"
            self._store.add_stop(job, epoch=None, cause="cancel", grace_seconds=0.0, why=why)
        elif state is not JobState.HELD:
            reason = f"{_CAUSE}: {past.scheduler} is asked for its task"
            self._store.move(job, JobState.SUBMITTED, reason=reason, cause=_CAUSE)


def _replaced(attempt: AttemptFacts) -> Meaning:
    """Return how an attempt ended after which another one, or another task, came."""
    return classify(_REPLACED, attempt.exits, asked=None, claimed=True)


def _scheduler_id(claim: bytes) -> str | None:
    try:
        return EpochRecord.model_validate_json(claim).scheduler_id or None
    except ValueError:
        return None
