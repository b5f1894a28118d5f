"""Handing due jobs over: exactly one effective task per job, whatever dies on the way.

tasks.json, then the intent (token and tasks, committed), then the scheduler, then its id
(committed). Whatever is found between intent and id is `settling`'s to resolve.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from durable.clock import Clock
from durable.faults import hit
from durable.files import private_dir, write_durable
from jobs.contract.paths import StateDir
from jobs.contract.records import Overrides, TaskRecord, TasksRecord, WorkerSite
from jobs.spec import JobSpec, ResourcesSpec
from jobs.states import JobState
from orchestrator.schedulers.base import (
    Accepted,
    Refused,
    Scheduler,
    SubmitOutcome,
    SubmitRequest,
    Uncertain,
)
from orchestrator.store import Store

DEFAULT_CHUNK = 500  # half of Slurm's default MaxArraySize
MAX_SUBMISSIONS_PER_TICK = 20
REFUSED_WAIT_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DueJob:
    """A job without live task whose time has come."""

    spec: JobSpec
    state: JobState
    matrix: str
    overrides: Overrides
    attempts: int
    budget_epoch: int = 0  # of the last `orch retry`

    def resources(self) -> ResourcesSpec:
        """Return what to ask for, overrides applied."""
        own = self.spec.run.resources
        if self.overrides.memory_gb is None:
            return own
        return own.model_copy(update={"memory_gb": self.overrides.memory_gb})


@dataclass(slots=True, kw_only=True)
class HandOver:
    """What handing over did, for people."""

    submitted: int = 0
    happenings: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    unreachable: str | None = None


class Submitter:
    """Hands due jobs to one scheduler."""

    def __init__(self, store: Store, state: StateDir, clock: Clock, site: WorkerSite) -> None:
        self._store = store
        self._state = state
        self._clock = clock
        self._site = site
        self._refused_until = 0.0  # monotonic
        self.exclude_nodes: tuple[str, ...] = ()  # set by each tick

    def hand_over(
        self, due: Sequence[DueJob], scheduler: Scheduler, *, lease_epoch: int
    ) -> HandOver:
        """Hand jobs over in chunks of identical resources; stop at the first that fails.

        At most `MAX_SUBMISSIONS_PER_TICK` calls: a tick is bounded.
        """
        report = HandOver()
        if self._clock.monotonic() < self._refused_until:
            return report
        limit = int(getattr(scheduler, "chunk_limit", DEFAULT_CHUNK))
        for count, chunk in enumerate(_chunks(due, limit)):
            if count == MAX_SUBMISSIONS_PER_TICK:
                break
            outcome = self._submit(chunk, scheduler, lease_epoch, report)
            if isinstance(outcome, Uncertain):
                report.unreachable = outcome.reason
                break
            if isinstance(outcome, Refused) and not outcome.permanent:
                # The limit holds for the other chunks too; hitting it costs no attempt.
                self._refused_until = self._clock.monotonic() + REFUSED_WAIT_SECONDS
                break
        return report

    def _submit(
        self, chunk: Sequence[DueJob], scheduler: Scheduler, lease_epoch: int, report: HandOver
    ) -> SubmitOutcome:
        request = self._prepare(chunk, scheduler)
        with self._store.writing(lease_epoch):
            ids = [job.spec.id for job in chunk]
            self._store.add_submission(request.token, scheduler=scheduler.name, jobs=ids)
            self._store.set_excluded_of(request.token, ",".join(request.exclude_nodes))
            for job in chunk:
                reason = f"being handed to {scheduler.name}"
                self._store.move(job.spec.id, JobState.SUBMITTED, reason=reason, cause="due")
        hit("handover.intent_committed")
        # Paused here for long enough to be taken over: the new holder looks for this token.
        self._store.database.check_lease(lease_epoch)
        outcome = scheduler.submit(request)
        hit("handover.submitted")
        with self._store.writing(lease_epoch):
            self._record(request.token, chunk, scheduler.name, outcome)
        hit("handover.settled")
        what = f"{len(chunk)} job{'s' if len(chunk) > 1 else ''}"
        match outcome:
            case Accepted(scheduler_id=scheduler_id):
                report.submitted += len(chunk)
                report.happenings.append(f"{scheduler.name} has {what} as {scheduler_id}")
            case Refused(reason=reason, hint=hint):
                words = f"{reason}; {hint}" if hint else reason
                report.refused.append(words)
                report.happenings.append(f"{scheduler.name} refused {what}: {words}")
            case Uncertain(reason=reason):
                report.happenings.append(
                    f"{scheduler.name} may or may not have {what} ({reason}): looking for them"
                )
        return outcome

    def _prepare(self, chunk: Sequence[DueJob], scheduler: Scheduler) -> SubmitRequest:
        token = secrets.token_hex(8)
        directory = self._state.submission(token)
        lease, number = self._store.next_order()
        tasks = TasksRecord(
            token=token,
            lease=lease,
            number=number,
            scheduler=scheduler.name,
            tasks=tuple(
                TaskRecord(
                    index=index,
                    job=job.spec.id,
                    overrides=job.overrides,
                    budget_epoch=job.budget_epoch,
                )
                for index, job in enumerate(chunk)
            ),
            site=self._site,
        )
        private_dir(directory.path)
        write_durable(directory.tasks, tasks.to_json())
        hit("handover.tasks_written")
        first = chunk[0]
        return SubmitRequest(
            token=token,
            matrix_name=first.matrix,
            directory=str(directory.path.absolute()),
            tasks=tasks,
            ranks=first.spec.semantic.engine.ranks,
            threads_per_rank=first.spec.semantic.engine.threads_per_rank,
            resources=first.resources(),
            grace_seconds=first.spec.run.grace_seconds,
            exclude_nodes=self.exclude_nodes,
        )

    def _record(
        self, token: str, chunk: Sequence[DueJob], name: str, outcome: SubmitOutcome
    ) -> None:
        match outcome:
            case Accepted(scheduler_id=scheduler_id):
                accept(self._store, token, scheduler_id, reason="accepted")
            case Uncertain(reason=reason):
                self._store.settle(token, "uncertain", scheduler_id=None, reason=reason)
                for job in chunk:
                    words = f"{name} did not say whether it has the job: {reason}"
                    state = JobState.SUBMITTED
                    self._store.move(job.spec.id, state, reason=words, cause=reason)
            case Refused(reason=reason, permanent=permanent, hint=hint):
                self._store.settle(token, "refused", scheduler_id=None, reason=reason)
                words = f"{name} refused: {reason}" + (f"; {hint}" if hint else "")
                give_back(self._store, token, reason=words, cause=reason, hold=permanent)


def accept(store: Store, token: str, scheduler_id: str, *, reason: str) -> None:
    """Record that the scheduler has the submission. Inside `writing`."""
    store.settle(token, "accepted", scheduler_id=scheduler_id, reason=reason)
    for task in store.tasks_of(token):
        if task["state"] == JobState.SUBMITTED:
            words = f"waits: submitted as {scheduler_id}"
            store.move(task["job"], JobState.QUEUED, reason=words, cause=reason)


def give_back(store: Store, token: str, *, reason: str, cause: str, hold: bool = False) -> None:
    """Free the jobs of a submission that the scheduler does not have. Inside `writing`.

    No attempt is charged. `hold`: no repetition can help; a person must act first.
    """
    store.close_tasks_of(token)
    for task in store.tasks_of(token):
        if task["state"] != JobState.SUBMITTED:
            store.start_again_if_wanted(task["job"])
            continue  # held or cancelled meanwhile
        before = JobState.RETRYING if task["attempts"] else JobState.NEW
        new = JobState.HELD if hold else before
        store.move(task["job"], new, reason=reason, cause=cause)


def _chunks(due: Sequence[DueJob], limit: int) -> Iterator[list[DueJob]]:
    """Yield jobs of one matrix and identical resources, at most `limit`, in their order."""
    groups: dict[tuple[object, ...], list[DueJob]] = {}
    for job in due:
        engine = job.spec.semantic.engine
        key = (
            job.matrix,
            engine.ranks,
            engine.threads_per_rank,
            job.resources(),
            job.spec.run.grace_seconds,
        )
        groups.setdefault(key, []).append(job)
    for group in groups.values():
        for start in range(0, len(group), max(1, limit)):
            yield group[start : start + max(1, limit)]
