"""Handing due jobs over: exactly one effective task per job, whatever dies on the way.

tasks.json, then the intent (token and tasks, committed), then the scheduler, then its id
(committed). Whatever is found between intent and id is `settling`'s to resolve. How many go at
once is `pacing`'s question; a refusal holds or delays its own resource group and no other.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from durable.clock import Clock
from durable.faults import hit
from durable.files import private_dir, write_durable
from jobs.contract.paths import StateDir
from jobs.contract.records import TaskRecord, TasksRecord, WorkerSite
from jobs.states import JobState
from orchestrator.checking import Checker
from orchestrator.due import DueJob, ResourceGroup
from orchestrator.pacing import Pace, backoff
from orchestrator.schedulers.base import (
    Accepted,
    Refused,
    Scheduler,
    SubmitLimits,
    SubmitOutcome,
    SubmitRequest,
    Uncertain,
)
from orchestrator.store import Store

DEFAULT_CHUNK = 500  # half of Slurm's default MaxArraySize
MAX_SUBMISSIONS_PER_TICK = 20
MAX_FULL_PER_TICK = 2  # groups that find no room at all; the others ask in later ticks
SILENT_SECONDS = 10.0  # the first wait after a scheduler did not answer
SILENT_SECONDS_AT_MOST = 300.0


@dataclass(slots=True, kw_only=True)
class HandOver:
    """What handing over did, for people."""

    submitted: int = 0
    happenings: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    unreachable: str | None = None


@dataclass(slots=True, kw_only=True)
class _Round:
    """One call of `hand_over`."""

    scheduler: Scheduler
    lease: int
    now: float  # monotonic
    chunk_limit: int
    live: int  # tasks that the scheduler has of ours; a packed allocation is one
    calls: int = 0
    full: int = 0
    report: HandOver = field(default_factory=HandOver)

    def over(self) -> bool:
        """Return whether this tick must not call the scheduler again: a tick is bounded."""
        return (
            self.report.unreachable is not None
            or self.calls >= MAX_SUBMISSIONS_PER_TICK
            or self.full >= MAX_FULL_PER_TICK
        )


class Submitter:
    """Hands due jobs to one scheduler.

    What it learned of limits is kept for the life of the process: a new one learns it again, at
    the price of a few refused calls.
    """

    def __init__(
        self,
        store: Store,
        state: StateDir,
        clock: Clock,
        site: WorkerSite,
        *,
        rng: random.Random | None = None,
    ) -> None:
        self._store = store
        self._state = state
        self._clock = clock
        self._site = site
        self._rng = rng or random.Random()  # noqa: S311 - jitter, no secret
        self._paces: dict[ResourceGroup, Pace] = {}
        self._silences = 0
        self._silent_until = 0.0  # monotonic
        self._checker = Checker(store.database, clock)
        self.exclude_nodes: tuple[str, ...] = ()  # set by each tick

    def hand_over(
        self, due: Sequence[DueJob], scheduler: Scheduler, *, lease_epoch: int
    ) -> HandOver:
        """Hand jobs over in their order, in chunks of identical resources, as far as there is room.

        Stops when the scheduler does not answer. At most `MAX_SUBMISSIONS_PER_TICK` calls.
        """
        now = self._clock.monotonic()
        if not due or now < self._silent_until:
            return HandOver()
        limits = scheduler if isinstance(scheduler, SubmitLimits) else None
        step = _Round(
            scheduler=scheduler,
            lease=lease_epoch,
            now=now,
            chunk_limit=max(1, limits.chunk_limit) if limits else DEFAULT_CHUNK,
            live=self._live_count(scheduler.name),
        )
        limit = limits.submit_limit if limits else None
        for group, jobs in self._with_room(due, step, limit):
            left = jobs
            while left and not step.over():
                left = self._advance(group, left, step)
        return step.report

    def _live_count(self, scheduler: str) -> int:
        """Return how many allocations a scheduler has, or may have."""
        row = self._store.database.one("live_count", {"scheduler": scheduler})
        return int(row[0]) if row else 0

    def _with_room(
        self, due: Sequence[DueJob], step: _Round, limit: int | None
    ) -> list[tuple[ResourceGroup, list[DueJob]]]:
        """Return the jobs that may go now, by group, groups in the order of their first job."""
        groups: dict[ResourceGroup, list[DueJob]] = {}
        open_now: dict[ResourceGroup, bool] = {}
        room = len(due) if limit is None else max(0, limit - step.live)
        late: list[str] = []
        for job in due:
            group = job.group()
            if group not in open_now:
                pace = self._paces.get(group, Pace())
                open_now[group] = pace.size(1, live=step.live, now=step.now) > 0
            if not open_now[group]:
                continue
            # A cell that fills up an allocation takes no room of its own.
            opens = len(groups.get(group, ())) % group.resources.pack == 0
            if opens and room == 0:
                late.append(job.spec.id)
                continue
            room -= opens
            groups.setdefault(group, []).append(job)
        if late:
            self._explain(late, f"waits: the submit limit of {limit} tasks is reached", step)
        return list(groups.items())

    def _advance(self, group: ResourceGroup, jobs: list[DueJob], step: _Round) -> list[DueJob]:
        """Make the next submission of a group; return its jobs that may still go in this tick."""
        pace = self._paces.get(group, Pace())
        pack = group.resources.pack
        wanted = min(_allocations(len(jobs), pack), step.chunk_limit)
        size = pace.size(wanted, live=step.live, now=step.now)
        chunk = [job for job in jobs[: size * pack] if job.matrix == jobs[0].matrix]
        if not chunk:
            return []
        if len(chunk) > pack:  # what does not fill an allocation goes by itself, asking for less
            chunk = chunk[: len(chunk) // pack * pack]
        tasks = _allocations(len(chunk), pack)
        request = self._request(group, chunk, step.scheduler)
        refused = self._checker.refusal(request, step.scheduler)
        if refused is not None:
            self._hold(jobs, refused, step)
            return []
        outcome = self._submit(request, chunk, step)
        gone = {job.spec.id for job in chunk}
        rest = [job for job in jobs if job.spec.id not in gone]
        if isinstance(outcome, Accepted):
            self._paces[group] = pace.accepted(tasks, live=step.live)
            self._silences = 0
            step.live += tasks
            return rest
        if isinstance(outcome, Uncertain):
            self._be_silent(step, outcome.reason)
        elif outcome.permanent:
            self._hold(rest, outcome, step)
        elif outcome.limit:
            step.full += tasks == 1
            self._paces[group] = pace.limited(tasks, live=step.live, now=step.now, rng=self._rng)
            return jobs
        else:
            self._paces[group] = pace.busy(now=step.now, rng=self._rng)
        return []

    def _be_silent(self, step: _Round, reason: str) -> None:
        """Stop asking for a while, longer each time: the scheduler does not answer anybody."""
        self._silences += 1
        self._silent_until = step.now + backoff(
            self._silences, first=SILENT_SECONDS, most=SILENT_SECONDS_AT_MOST, rng=self._rng
        )
        step.report.unreachable = reason

    def _submit(
        self, request: SubmitRequest, chunk: Sequence[DueJob], step: _Round
    ) -> SubmitOutcome:
        """Write tasks.json, commit the intent, ask the scheduler, commit what it said."""
        step.calls += 1
        name, token = step.scheduler.name, request.token
        directory = self._state.submission(token)
        private_dir(directory.path)
        write_durable(directory.tasks, request.tasks.to_json())
        hit("handover.tasks_written")
        with self._store.writing(step.lease):
            ids = [job.spec.id for job in chunk]
            pack = request.tasks.pack
            self._store.add_submission(token, scheduler=name, jobs=ids, pack=pack)
            self._store.set_excluded_of(token, ",".join(request.exclude_nodes))
            for state, some in _by_state(chunk):
                reason = f"being handed to {name}"
                self._store.move_all(
                    some, old=state, new=JobState.SUBMITTED, reason=reason, cause="due"
                )
        hit("handover.intent_committed")
        # Paused here for long enough to be taken over: the new holder looks for this token.
        self._store.database.check_lease(step.lease)
        outcome = step.scheduler.submit(request)
        hit("handover.submitted")
        with self._store.writing(step.lease):
            self._record(token, ids, name, outcome)
            if isinstance(outcome, Accepted):
                self._checker.passed(request, step.scheduler)
        hit("handover.settled")
        _tell(step.report, name, len(chunk), outcome)
        return outcome

    def _request(
        self, group: ResourceGroup, chunk: Sequence[DueJob], scheduler: Scheduler
    ) -> SubmitRequest:
        token = secrets.token_hex(8)
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
                    waivers=job.waivers(),
                    budget_epoch=job.budget_epoch,
                )
                for index, job in enumerate(chunk)
            ),
            site=self._site,
            pack=min(group.resources.pack, len(chunk)),
        )
        return SubmitRequest(
            token=token,
            matrix_name=chunk[0].matrix,
            directory=str(self._state.submission(token).path.absolute()),
            tasks=tasks,
            ranks=group.ranks,
            threads_per_rank=group.threads_per_rank,
            resources=group.resources,
            grace_seconds=group.grace_seconds,
            exclude_nodes=self.exclude_nodes,
        )

    def _record(self, token: str, ids: Sequence[str], name: str, outcome: SubmitOutcome) -> None:
        match outcome:
            case Accepted(scheduler_id=scheduler_id):
                accept(self._store, token, scheduler_id, reason="accepted")
            case Uncertain(reason=reason):
                self._store.settle(token, "uncertain", scheduler_id=None, reason=reason)
                words = f"{name} did not say whether it has the job: {reason}"
                self._store.explain(ids, words)
            case Refused(reason=reason, permanent=permanent):
                self._store.settle(token, "refused", scheduler_id=None, reason=reason)
                words = _refusal_words(name, outcome)
                give_back(self._store, token, reason=words, cause=reason, hold=permanent)

    def _hold(self, jobs: Iterable[DueJob], refused: Refused, step: _Round) -> None:
        """Hold jobs that would be refused like the one before; a person must act first."""
        held = list(jobs)
        name = step.scheduler.name
        with self._store.writing(step.lease):
            for state, some in _by_state(held):
                self._store.move_all(
                    some,
                    old=state,
                    new=JobState.HELD,
                    reason=_refusal_words(name, refused),
                    cause=refused.reason,
                )
        if held:
            _tell(step.report, name, len(held), refused)

    def _explain(self, ids: Sequence[str], reason: str, step: _Round) -> None:
        with self._store.writing(step.lease):
            self._store.explain(ids, reason)


def _allocations(jobs: int, pack: int) -> int:
    return -(-jobs // pack)


def accept(store: Store, token: str, scheduler_id: str, *, reason: str) -> None:
    """Record that the scheduler has the submission. Inside `writing`."""
    store.settle(token, "accepted", scheduler_id=scheduler_id, reason=reason)
    store.move_all(
        [task["job"] for task in store.tasks_of(token) if task["state"] == JobState.SUBMITTED],
        old=JobState.SUBMITTED,
        new=JobState.QUEUED,
        reason=f"waits: submitted as {scheduler_id}",
        cause=reason,
    )


def give_back(store: Store, token: str, *, reason: str, cause: str, hold: bool = False) -> None:
    """Free the jobs of a submission that the scheduler does not have. Inside `writing`.

    No attempt is charged. `hold`: no repetition can help; a person must act first.
    """
    store.close_tasks_of(token)
    tasks = []
    for task in store.tasks_of(token):
        if task["state"] == JobState.SUBMITTED:
            tasks.append(task)
        else:  # held or cancelled meanwhile
            store.start_again_if_wanted(task["job"])
    for tried, before in ((True, JobState.RETRYING), (False, JobState.NEW)):
        store.move_all(
            [task["job"] for task in tasks if bool(task["attempts"]) is tried],
            old=JobState.SUBMITTED,
            new=JobState.HELD if hold else before,
            reason=reason,
            cause=cause,
        )


def _by_state(jobs: Iterable[DueJob]) -> list[tuple[JobState, list[str]]]:
    states: dict[JobState, list[str]] = {}
    for job in jobs:
        states.setdefault(job.state, []).append(job.spec.id)
    return list(states.items())


def _refusal_words(name: str, refused: Refused) -> str:
    """Return the reason that jobs show: the scheduler's words and what helps."""
    verb = "waits:" if refused.limit else f"{name} refused:"
    return f"{verb} {refused.reason}" + (f"; {refused.hint}" if refused.hint else "")


def _tell(report: HandOver, name: str, count: int, outcome: SubmitOutcome) -> None:
    """Put an outcome into words for people."""
    what = f"{count} job{'s' if count > 1 else ''}"
    match outcome:
        case Accepted(scheduler_id=scheduler_id):
            report.submitted += count
            report.happenings.append(f"{name} has {what} as {scheduler_id}")
        case Refused(reason=reason, limit=True):
            report.happenings.append(f"{name} takes no {what} more now: {reason}")
        case Refused(reason=reason, hint=hint):
            words = f"{reason}; {hint}" if hint else reason
            report.refused.append(words)
            report.happenings.append(f"{name} refused {what}: {words}")
        case Uncertain(reason=reason):
            report.happenings.append(
                f"{name} may or may not have {what} ({reason}): looking for them"
            )
