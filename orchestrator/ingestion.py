"""Carrying out the wishes of the inbox, each exactly once."""

from __future__ import annotations

from collections.abc import Sequence

from durable.faults import hit
from jobs.contract.paths import StateDir
from jobs.spec import JobSpec
from jobs.states import JobState
from orchestrator import requests
from orchestrator.store import Store

_STARTABLE = frozenset({JobState.HELD, JobState.CANCELLED})
_STOPPED = frozenset({JobState.HELD, JobState.CANCELLED, JobState.FAILED})


class Ingestion:
    """The lease holder's side of the inbox."""

    def __init__(self, store: Store, state: StateDir) -> None:
        self._store = store
        self._state = state

    def run(self, *, lease_epoch: int) -> list[str]:
        """Carry out all requests, oldest first; return what happened, for people."""
        happenings: list[str] = []
        for name in requests.pending(self._state):
            happenings += self._one(name, lease_epoch)
        return happenings

    def _one(self, name: str, lease_epoch: int) -> list[str]:
        lines: list[str] = []
        if not self._store.request_seen(name):
            try:
                wish = requests.read(self._state, name)
                prepared = (
                    requests.read_matrix(self._state, wish.matrix)
                    if isinstance(wish, requests.SubmitWish)
                    else None
                )
            except ValueError as error:
                requests.set_aside(self._state, name)
                return [f"a request was set aside: {error}"]
            with self._store.writing(lease_epoch):
                match wish:
                    case requests.SubmitWish() if prepared is not None:
                        lines = self._submit(*prepared)
                    case requests.CancelWish(jobs=jobs):
                        lines = [line for job in jobs for line in self._cancel(job)]
                    case requests.PreemptWish(job=job, epoch=epoch):
                        lines = self._preempt(job, epoch)
                    case requests.AgainWish(jobs=jobs):
                        lines = [line for job in jobs for line in self._again(job, _STOPPED)]
                self._store.add_request(name)
                hit("ingest.before_commit")
            hit("ingest.committed")
        requests.remove(self._state, name)
        return lines

    def _submit(self, record: requests.MatrixRecord, specs: Sequence[JobSpec]) -> list[str]:
        self._store.add_matrix(
            digest=record.digest, name=record.name, path=record.path, cells=record.cells
        )
        new, again = 0, []
        for position, spec in enumerate(specs):
            if self._store.add_job(spec, matrix=record.digest, position=position):
                new += 1
            else:
                # Asking for a job that a person had stopped starts it again; a job that
                # failed by a rule needs more than the same wish.
                again += self._again(spec.id, _STARTABLE)
        return [f"{record.name}: {new} new jobs, {len(specs) - new} known", *again]

    def _cancel(self, job: str) -> list[str]:
        state = self._store.job_state(job)
        if state in (JobState.COMPLETED, JobState.CANCELLED):
            return []
        cause = "cancelled by a person"
        self._store.move(job, JobState.CANCELLED, reason=cause, cause=cause)
        if self._store.has_live_task(job):
            self._store.add_stop(job, epoch=None, cause="cancel", grace_seconds=0.0, why=cause)
        return [f"{job}: cancelled"]

    def _preempt(self, job: str, epoch: int | None) -> list[str]:
        if self._store.job_state(job) is not JobState.RUNNING:
            return [f"{job}: not running, nothing to preempt"]
        grace = self._store.spec_of(job).run.grace_seconds
        why = "asked for by a person"
        self._store.add_stop(job, epoch=epoch, cause="preemption", grace_seconds=grace, why=why)
        return [f"{job}: preemption of attempt {epoch or '(the running one)'} requested"]

    def _again(self, job: str, stopped: frozenset[JobState]) -> list[str]:
        state = self._store.job_state(job)
        if state not in stopped or self._store.has_live_task(job):
            return []
        tried = state is JobState.FAILED or self._store.attempts_of(job) > 0
        new = JobState.RETRYING if tried else JobState.NEW
        self._store.set_due_now(job)
        reason = "started again by a person"
        self._store.move(job, new, reason=reason, cause=reason)
        return [f"{job}: {reason}"]
