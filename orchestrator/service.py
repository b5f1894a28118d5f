"""The use cases behind the verbs. Light: no torch, no rich, nothing of the worker.

Wishes (submit, cancel, preempt) go through the inbox, whoever carries them out: the watcher
that holds the lease, or, when nobody does, the verb itself with one tick.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from durable.clock import Clock, SystemClock
from durable.files import private_dir
from durable.locks import Locked
from jobs.contract.paths import JobDir, StateDir
from jobs.contract.records import WorkerSite
from jobs.geometry import check_ranks
from jobs.states import TERMINAL, JobState
from jobs.waivers import Waiver
from orchestrator import requests
from orchestrator.admission import MAX_IN_FLIGHT
from orchestrator.awakening import Awakening
from orchestrator.database import Database
from orchestrator.facts import Limits
from orchestrator.instance import require_database
from orchestrator.interval import CLUSTER, PACES, Interval, Pace
from orchestrator.lease import Lease, read_watcher
from orchestrator.leaving import asked_to_leave, forget_request
from orchestrator.node_strikes import NodeRules
from orchestrator.ownership import require_own
from orchestrator.planning import Planner
from orchestrator.reading import NotFound, Reading
from orchestrator.rows import EventRow, JobRow, Plan, ResultRow, SubmitReport, TickReport, Watcher
from orchestrator.schedulers.base import Scheduler
from orchestrator.store import Store
from orchestrator.tick import Tick

if TYPE_CHECKING:
    from jobs.matrix import Matrix

__all__ = ["NoScheduler", "NotFound", "NotRunning", "Service", "WishPending"]

WISH_SECONDS = 60.0  # a holder that has not read a wish by then is not alive enough
POLL_SECONDS = 0.1
AWAKE_SECONDS = 1.0  # a pause is never deaf for longer than this
STOPPED = frozenset({JobState.FAILED, JobState.HELD, JobState.CANCELLED})


class NoScheduler(RuntimeError):
    """The service was opened for reading only."""


class NotRunning(RuntimeError):
    """Only a running job can be preempted."""


class WishPending(RuntimeError):
    """The lease holder has not read the wish yet; it is kept and will be carried out."""


class Service:
    """One state directory, seen by one process."""

    def __init__(
        self,
        state: StateDir,
        database: Database,
        clock: Clock,
        *,
        scheduler: Scheduler | None,
        schedulers: Mapping[str, Scheduler],
        site: WorkerSite,
        tick_seconds: float | None,
        limits: Limits,
        max_in_flight: int = MAX_IN_FLIGHT,
        node_rules: NodeRules | None = None,
    ) -> None:
        self.state = state
        self._database = database
        self._clock = clock
        self._scheduler = scheduler
        self._schedulers = {**schedulers, **({scheduler.name: scheduler} if scheduler else {})}
        self._tick_seconds = tick_seconds
        self.store = Store(database, clock)
        self._reading = Reading(database, state, clock)
        self._lease: Lease | None = None
        self._ticker: Tick | None = None
        if scheduler is not None:
            self._ticker = Tick(
                self.store,
                state,
                clock,
                default=scheduler,
                scheduler_named=self._schedulers.get,
                site=site,
                limits=limits,
                max_in_flight=max_in_flight,
                node_rules=node_rules,
            )

    @classmethod
    def open(
        cls,
        home: Path,
        *,
        scheduler: Scheduler | None = None,
        schedulers: Mapping[str, Scheduler] | None = None,
        clock: Clock | None = None,
        site: WorkerSite | None = None,
        tick_seconds: float | None = None,
        limits: Limits | None = None,
        max_in_flight: int = MAX_IN_FLIGHT,
        node_rules: NodeRules | None = None,
    ) -> Service:
        """Open (and if needed create, mode 0700) a state directory.

        `scheduler`: for new work; None for reading only. `schedulers`: others, by name, that
        earlier submissions may live on. Raises `orchestrator.database.NewerSchema`,
        `orchestrator.instance.StateRefused` where the database is gone.
        """
        clock = clock or SystemClock()
        state = StateDir(private_dir(home.absolute()))
        require_own(state)
        require_database(state)
        return cls(
            state,
            Database(state.database),
            clock,
            scheduler=scheduler,
            schedulers=schedulers or {},
            site=site or WorkerSite(),
            tick_seconds=tick_seconds,
            limits=limits or Limits(),
            max_in_flight=max_in_flight,
            node_rules=node_rules,
        )

    def close(self) -> None:
        """Give up the database connection (and the lease, if held)."""
        if self._lease is not None:
            self._lease.release()
            self._lease = None
        self._database.close()

    # --- reading

    def rows(self, selector: str | None = None) -> list[JobRow]:
        """Return jobs by matrix name, job name or id prefix (>= 4); None: all. `NotFound`."""
        return self._reading.rows(selector)

    def results(self, selector: str | None = None) -> list[ResultRow]:
        """Return results by matrix name, job name or id prefix; None: all. `NotFound`."""
        return self._reading.results(selector)

    def events(self, selector: str | None = None) -> list[EventRow]:
        """Return the journal, of all or of one job, oldest first. Raises `NotFound`."""
        return self._reading.events(selector)

    def watcher(self) -> Watcher:
        """Return who keeps the matrix moving."""
        return read_watcher(self.state, self._clock)

    def job_dir(self, selector: str) -> tuple[JobRow, JobDir]:
        """Return one job's row and directory. Raises `NotFound`, also for several jobs."""
        job = self._reading.select_one(selector)
        return self._reading.rows(job)[0], self.state.job(job)

    def plan(self, matrices: Sequence[Matrix]) -> Plan:
        """Return what `submit` would do, without any effect.

        Raises `jobs.errors.MatrixInvalid` for needs that cannot be met.
        """
        return Planner(self._database, self.state).plan(matrices)

    # --- wishes

    def submit(self, matrices: Sequence[Matrix], *, prune: bool = False) -> SubmitReport:
        """Take the matrices' jobs in and hand them over; repeated, it changes nothing.

        `prune`: cancel what earlier records of these matrices named and nobody wants any more.
        Raises `NoScheduler`, `WishPending`; `jobs.errors.MatrixInvalid` as `plan` does.
        """
        planner = Planner(self._database, self.state)
        plan = planner.plan(matrices)
        names = []
        written = self._ticker.specs if self._ticker else None
        for matrix in planner.resolve(matrices):
            digest = requests.write_matrix(self.state, matrix, written=written)
            names.append(requests.post(self.state, requests.SubmitWish(matrix=digest)))
        if prune and plan.removed:
            wish = requests.PruneWish(matrices=tuple({m.name: None for m in matrices}))
            names.append(requests.post(self.state, wish))
        report = self._carried_out(names)
        ids = {spec.id for spec in plan.jobs}
        states = [r.state for r in self.rows() if r.id in ids]
        waiting = sum(s in (JobState.NEW, JobState.RETRYING, JobState.SUBMITTED) for s in states)
        handed = self._ticker.last_hand_over if self._ticker and report else None
        return SubmitReport(
            plan=plan,
            submitted=handed.submitted if handed else plan.new - min(plan.new, waiting),
            waiting=waiting,
            refused=tuple(dict.fromkeys(handed.refused)) if handed else (),
            unreachable=handed.unreachable if handed else None,
        )

    def chosen(self, selectors: Sequence[str]) -> list[JobRow]:
        """Return the jobs that any of several selectors means; none: all. `NotFound`."""
        return self._reading.rows_of(self._reading.select_all(selectors) if selectors else None)

    def cancel(self, *selectors: str) -> list[str]:
        """End jobs for good; return the names of those that were not over. `NotFound`."""
        return self._wished(requests.CancelWish, self.going_on(selectors))

    def hold(self, *selectors: str) -> list[str]:
        """Let jobs wait for a person; return the names of those that were going on. `NotFound`."""
        over = TERMINAL | {JobState.HELD}
        return self._wished(requests.HoldWish, self.going_on(selectors, over=over))

    def going_on(
        self, selectors: Sequence[str], *, over: frozenset[JobState] = TERMINAL
    ) -> list[JobRow]:
        """Return the chosen jobs not in `over`, or wanted again once their task has left."""
        wanted = self.store.going_on()
        return [r for r in self.chosen(selectors) if r.state not in over or r.id in wanted]

    def release(self, *selectors: str) -> list[str]:
        """Let held jobs go on, also those that the scheduler holds. Raises `NotFound`."""
        held = self.store.held_tasks()
        rows = [r for r in self.chosen(selectors) if r.state is JobState.HELD or r.id in held]
        return self._wished(requests.ReleaseWish, rows)

    def again(
        self, *selectors: str, waive: Sequence[Waiver] = (), ranks: int | None = None
    ) -> list[str]:
        """Start failed, held or cancelled jobs again, with whole budgets. `NotFound`.

        `waive`: what of their checkpoints may differ from now on; `ranks`: how many they have
        from now on. Raises `jobs.geometry.BadGeometry` where a job cannot have so many.
        """
        rows = [row for row in self.chosen(selectors) if row.state in STOPPED]
        if ranks is not None:
            for row in rows:
                check_ranks(self.store.spec_of(row.id), self.store.overrides_of(row.id), ranks)
        if rows:
            jobs = tuple(row.id for row in rows)
            wish = requests.AgainWish(jobs=jobs, waive=tuple(waive), ranks=ranks)
            self._carried_out([requests.post(self.state, wish)])
        return [row.name for row in rows]

    def forgive(self, nodes: Sequence[str]) -> list[str]:
        """Use nodes again at once, with no strikes. Raises `ValueError` for what is no name."""
        wish = requests.ForgiveWish(nodes=tuple(nodes))
        self._carried_out([requests.post(self.state, wish)])
        return list(nodes)

    def _wished(
        self,
        kind: type[requests.CancelWish | requests.HoldWish | requests.ReleaseWish],
        rows: Sequence[JobRow],
    ) -> list[str]:
        """Have a wish for these jobs carried out; return their names."""
        if rows:
            wish = kind(jobs=tuple(row.id for row in rows))
            self._carried_out([requests.post(self.state, wish)])
        return [row.name for row in rows]

    def preempt(self, selector: str, *, on_line: Callable[[str], None]) -> None:
        """Rehearse the site's signal sequence on a running job and wait until it is done.

        Raises `NotFound`, `NotRunning`, `WishPending`.
        """
        row, _ = self.job_dir(selector)
        if row.state is not JobState.RUNNING or row.epoch is None:
            raise NotRunning(f"{row.name} is {row.state}: only a running job can be preempted")
        spec = self.store.spec_of(row.id)
        wish = requests.PreemptWish(job=row.id, epoch=row.epoch)
        self._carried_out([requests.post(self.state, wish)])
        on_line(f"{row.name}: notice given to attempt {row.epoch}")
        began = next_look = self._clock.monotonic()
        interval = Interval(self._pace())
        while self._clock.monotonic() < began + spec.run.grace_seconds + WISH_SECONDS:
            now = self.rows(row.id)[0]
            if now.state is not JobState.RUNNING or now.epoch != row.epoch:
                on_line(f"{row.name}: attempt {row.epoch} has ended; the job is {now.state}")
                return
            if (at := self._clock.monotonic()) >= next_look:
                self._try_tick()
                next_look = at + interval.after(at, changed=True)
            self._clock.sleep(POLL_SECONDS)
        on_line(f"{row.name}: attempt {row.epoch} still runs; see `orch status`")

    def _carried_out(self, names: Sequence[str]) -> TickReport | None:
        """Wait until the wishes are carried out, by ourselves if nobody holds the lease.

        Return our own tick's report, or None when somebody else did it.
        """
        deadline = self._clock.monotonic() + WISH_SECONDS
        while True:
            report = self._try_tick()
            waiting = set(names) & set(requests.pending(self.state))
            if not waiting:
                return report
            if self._clock.monotonic() > deadline:
                raise WishPending(
                    f"the request is kept in {requests.inbox(self.state)}, but the holder of the"
                    " lease has not read it; `orch status` says who that is"
                )
            self._clock.sleep(POLL_SECONDS)

    def _try_tick(self) -> TickReport | None:
        try:
            return self.tick()
        except Locked:
            return None

    def adopt_here(self) -> list[str]:
        """Take a directory that was moved under live tasks; return what happened.

        Raises as `orchestrator.moving.adopt_here`.
        """
        from orchestrator.moving import adopt_here

        return adopt_here(self.state, self._database, self._clock, self._schedulers.get)

    # --- moving

    def tick(self) -> TickReport:
        """Do one bounded, crash-safe look at everything.

        Raises `durable.locks.Locked` (the holder named) when someone else holds the lease,
        `orchestrator.database.LeaseLost` when someone took it over, `NoScheduler`.
        """
        if self._ticker is None:
            raise NoScheduler("this service was opened for reading: give it a scheduler")
        if self._lease is not None:
            return self._tick_with(self._ticker, self._lease)
        lease = Lease(self.state, self._database, self._clock, verb="tick")
        lease.acquire()
        try:
            return self._tick_with(self._ticker, lease)
        finally:
            lease.release()

    def _tick_with(self, ticker: Tick, lease: Lease) -> TickReport:
        report = ticker.run(lease_epoch=lease.epoch)
        lease.beat(ticker.looked)
        return report

    def watch(
        self,
        *,
        until_idle: bool,
        on_tick: Callable[[TickReport], None],
        stop: threading.Event,
    ) -> None:
        """Hold the lease and tick until `stop` is set, nothing is left (`until_idle`), or until
        `orch watch --stop` asks this watcher, from whichever host, to leave.

        Raises as `tick`.
        """
        if self._ticker is None:
            raise NoScheduler("this service was opened for reading: give it a scheduler")
        ticker = self._ticker
        interval, awakening, woken = Interval(self._pace()), Awakening(self.state), False
        lease = Lease(self.state, self._database, self._clock, verb="watch")
        lease.acquire()
        self._lease = lease
        try:
            while not stop.is_set():
                report = self._tick_with(ticker, lease)
                on_tick(report)
                if until_idle and not (self.store.busy() or requests.pending(self.state)):
                    return
                changed = woken or ticker.urgent or bool(report.happenings)
                seconds = interval.after(self._clock.monotonic(), changed=changed)
                awakening.expect(ticker.running)
                woken = self._pause(seconds, awakening, stop)
            if asked_to_leave(self.state, lease.epoch):
                forget_request(self.state)
        finally:
            self._lease = None
            lease.release()

    def _pace(self) -> Pace:
        if self._tick_seconds is not None:
            return Pace(quick=self._tick_seconds, steady=self._tick_seconds)
        return PACES.get(self._scheduler.name if self._scheduler else "", CLUSTER)

    def _pause(self, seconds: float, awakening: Awakening, stop: threading.Event) -> bool:
        """Wait until it is time to look again; return whether something ended the wait early."""
        while seconds > 0 and not stop.wait(min(AWAKE_SECONDS, seconds)):
            if self._lease is not None and asked_to_leave(self.state, self._lease.epoch):
                stop.set()
                break
            seconds -= AWAKE_SECONDS
            if seconds > 0 and awakening.is_due():
                return True
        return False
