"""Carrying out the wishes of the inbox, each exactly once."""

from __future__ import annotations

from collections.abc import Sequence

from durable.faults import hit
from jobs.contract.paths import StateDir
from jobs.spec import JobSpec
from jobs.states import TERMINAL, JobState
from orchestrator import requests
from orchestrator.desired import jobs_of_current, removed_jobs, take_needs
from orchestrator.reconcile import AGAIN_WORDS
from orchestrator.store import Store

_STARTABLE = frozenset({JobState.HELD, JobState.CANCELLED})
_STOPPED = frozenset({JobState.HELD, JobState.CANCELLED, JobState.FAILED})


class Ingestion:
    """The lease holder's side of the inbox."""

    def __init__(self, store: Store, state: StateDir) -> None:
        self._store = store
        self._state = state
        self.specs: dict[str, JobSpec] = {}  # that this process has published or taken in

    def run(self, *, lease_epoch: int) -> list[str]:
        """Carry out all requests, oldest first; return what happened, for people."""
        happenings: list[str] = []
        for name in requests.pending(self._state):
            happenings += self._one(name, lease_epoch)
        return happenings

    def again(self, name: str, lease_epoch: int) -> list[str]:
        """Carry a request out on a store that may have lost it; return what happened."""
        return self._one(name, lease_epoch)

    def take_in(self, digest: str, *, lease_epoch: int) -> list[str]:
        """Take in a written matrix that no request names. Raises `requests.BadRequest`."""
        prepared = requests.read_matrix(self._state, digest)
        with self._store.writing(lease_epoch):
            return self._submit(*prepared)

    def _one(self, name: str, lease_epoch: int) -> list[str]:
        lines: list[str] = []
        if not self._store.request_seen(name):
            try:
                wish = requests.read(self._state, name)
                prepared = (
                    requests.read_matrix(self._state, wish.matrix, written=self.specs)
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
                    case requests.PruneWish(matrices=names):
                        lines = self._prune(names)
                    case requests.PreemptWish(job=job, epoch=epoch):
                        lines = self._preempt(job, epoch)
                    case requests.HoldWish(jobs=jobs):
                        lines = [line for job in jobs for line in self._hold(job)]
                    case requests.ReleaseWish(jobs=jobs):
                        lines = [line for job in jobs for line in self._release(job)]
                    case requests.ForgiveWish(nodes=nodes):
                        lines = [line for node in nodes for line in self._forgive(node)]
                    case requests.AgainWish(jobs=jobs):
                        lines = [line for job in jobs for line in self._retry(job, wish)]
                self._store.add_request(name)
                hit("ingest.before_commit")
            hit("ingest.committed")
        requests.put_away(self._state, name)
        return lines

    def _submit(self, record: requests.MatrixRecord, specs: Sequence[JobSpec]) -> list[str]:
        self._store.add_matrix(
            digest=record.digest,
            name=record.name,
            path=record.path,
            cells=record.cells,
            max_in_flight=record.max_in_flight,
        )
        priorities = record.priorities or tuple(spec.run.priority for spec in specs)
        new = self._store.add_jobs(specs, matrix=record.digest, priorities=priorities)
        self.specs.update((spec.id, spec) for spec in specs if spec.id in new)
        # Asking for a job that was cancelled, or that no scheduler took, starts it again; a job
        # that failed by a rule needs more than the same wish, and one that a person holds needs
        # that person's word.
        known = [spec.id for spec in specs if spec.id not in new]
        again = [line for job in known for line in self._asked_for_again(job)]
        take_needs(self._store.database, record)
        return [f"{record.name}: {len(new)} new jobs, {len(known)} known", *again]

    def _prune(self, names: Sequence[str]) -> list[str]:
        # Asked of the store, not of the verb: meanwhile another matrix may want a job.
        database = self._store.database
        named = {job for name in names for job in jobs_of_current(database, name)}
        lines = []
        for row in removed_jobs(database, names, named=named):
            if row["state"] not in TERMINAL:
                lines += self._cancel(row["id"], f"no longer in matrix {row['matrix']} (--prune)")
        return lines

    def _cancel(self, job: str, cause: str = "cancelled by a person") -> list[str]:
        state, wanted = self._store.job_state(job), self._store.again_wanted(job)
        if state is JobState.COMPLETED or (state is JobState.CANCELLED and wanted is None):
            return []
        if wanted is not None:
            self._store.event("wish", job=job, cause=cause, decision=f"its {wanted} is taken back")
        self._store.set_wish(job, again=None, held=False)
        self._store.move(job, JobState.CANCELLED, reason=cause, cause=cause)
        if self._store.has_live_task(job):
            self._store.add_stop(job, epoch=None, cause="cancel", grace_seconds=0.0, why=cause)
        return [f"{job}: cancelled"]

    def _forgive(self, node: str) -> list[str]:
        self._store.forgive(node)
        decision = "its strikes count no more"
        self._store.event("node", cause=f"{node} forgiven by a person", decision=decision)
        return [f"node {node}: forgiven"]

    def _preempt(self, job: str, epoch: int | None) -> list[str]:
        if self._store.job_state(job) is not JobState.RUNNING:
            return [f"{job}: not running, nothing to preempt"]
        grace = self._store.spec_of(job).run.grace_seconds
        why = "asked for by a person"
        self._store.add_stop(job, epoch=epoch, cause="preemption", grace_seconds=grace, why=why)
        return [f"{job}: preemption of attempt {epoch or '(the running one)'} requested"]

    def _hold(self, job: str) -> list[str]:
        """Hold a job; the reconciler ends its task, in peace if it runs."""
        state, wanted = self._store.job_state(job), self._store.again_wanted(job)
        if state is JobState.COMPLETED or (state in TERMINAL and wanted is None):
            return []
        if wanted is not None:
            # It was to go on once its last attempt has left: begun, and held in the same moment.
            self._store.start_again(job, anew=wanted == "retry", cause=f"{wanted} by a person")
        self._store.set_wish(job, again=None, held=True)
        cause = "held by a person"
        leaving = " (its attempt saves and leaves)" if state is JobState.RUNNING else ""
        self._store.move(
            job, JobState.HELD, reason=f"{cause}; orch release continues it{leaving}", cause=cause
        )
        return [f"{job}: {cause}"]

    def _release(self, job: str) -> list[str]:
        """Let a held job go on; a task that the scheduler holds is released there."""
        state = self._store.job_state(job)
        if state is JobState.HELD:
            return self._start(job, "release", "released by a person")
        if state is JobState.QUEUED and self._store.want_release(job):
            return [f"{job}: to be released at the scheduler"]
        return []

    def _asked_for_again(self, job: str) -> list[str]:
        if self._store.held_by_person(job):
            return [f"{job}: stays held; orch release continues it"]
        return self._again(job, _STARTABLE)

    def _retry(self, job: str, wish: requests.AgainWish) -> list[str]:
        """Start a stopped job again, with what the person changes about it."""
        if self._store.job_state(job) not in _STOPPED:
            return []
        old = self._store.overrides_of(job)
        if wish.ranks is not None:
            old = old.model_copy(update={"ranks": wish.ranks})
            self._store.set_overrides(job, old)
            decision = "the same global batch; the result then says exact: false"
            cause = f"{wish.ranks} ranks wanted by a person"
            self._store.event("wish", job=job, cause=cause, decision=decision)
        if wish.waive:
            names = ", ".join(wish.waive)
            waive = tuple(dict.fromkeys([*old.waive, *map(str, wish.waive)]))
            self._store.set_overrides(job, old.model_copy(update={"waive": waive}))
            decision = "may differ at a resume; the result then says exact: false"
            self._store.event(
                "wish", job=job, cause=f"waived by a person: {names}", decision=decision
            )
        return self._again(job, _STOPPED)

    def _again(self, job: str, stopped: frozenset[JobState]) -> list[str]:
        if self._store.job_state(job) not in stopped:
            return []
        return self._start(job, "retry", AGAIN_WORDS)

    def _start(self, job: str, wish: str, cause: str) -> list[str]:
        """Start a stopped job, at once or when its last task is gone."""
        if self._store.has_live_task(job):
            self._store.set_wish(job, again=wish, held=False)
            state = self._store.job_state(job)
            reason = f"{cause}, as soon as its last attempt has left"
            self._store.move(job, state, reason=reason, cause=cause)
            self._store.event("wish", job=job, cause=cause, decision=reason)
            return [f"{job}: {reason}"]
        return [f"{job}: {self._store.start_again(job, anew=wish == 'retry', cause=cause)}"]
