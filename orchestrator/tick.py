"""One bounded, crash-safe look at everything: wishes, unsettled submissions, live tasks, due jobs.

Every step may be repeated: a tick that dies anywhere is finished by the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from durable.clock import Clock
from durable.faults import hit
from durable.garbage import uncollected
from jobs.contract.paths import StateDir
from jobs.contract.records import Overrides, WorkerSite
from jobs.spec import JobSpec
from jobs.states import JobState
from orchestrator.actions import CancelTask, Kill, Notify, SeeProgress
from orchestrator.admission import MAX_IN_FLIGHT
from orchestrator.applying import Applier, Decided, Effects
from orchestrator.continuity import Stamp, begin_anew, stood_still, went_on
from orchestrator.due import DueJob
from orchestrator.facts import Evidence, JobFacts, Limits
from orchestrator.ingestion import Ingestion
from orchestrator.late_results import accept_late_results
from orchestrator.node_exclusion import NodeHealth
from orchestrator.node_strikes import NodeRules
from orchestrator.observation import publish_seen
from orchestrator.packs import CellNotes
from orchestrator.pulse import read_beat
from orchestrator.reconcile import WAITING, Moment, reconcile
from orchestrator.rounds import Rounds
from orchestrator.row_facts import RowFacts
from orchestrator.rows import TickReport
from orchestrator.schedulers.base import Answer, Known, Observation, Scheduler, TaskKey, TaskState
from orchestrator.settling import patience_of, settle_all
from orchestrator.store import Store
from orchestrator.submission import HandOver, Submitter
from orchestrator.tick_recorder import TickRecorder
from orchestrator.waiting_jobs import choose_due, remember_full, remembered_full
from orchestrator.waits import end_overlong_waits
from orchestrator.watcher_job import WatcherJobLook


class Tick:
    """Keeps, between ticks of one process, only what can be read again: specs and the time."""

    def __init__(
        self,
        store: Store,
        state: StateDir,
        clock: Clock,
        *,
        default: Scheduler,
        scheduler_named: Callable[[str], Scheduler | None],
        site: WorkerSite,
        limits: Limits,
        max_in_flight: int = MAX_IN_FLIGHT,
        node_rules: NodeRules | None = None,
    ) -> None:
        self._store = store
        self._state = state
        self._clock = clock
        self._default = default
        self._scheduler_named = scheduler_named
        self._limits = limits
        self._max_in_flight = max_in_flight
        self._ingestion = Ingestion(store, state)
        self._applier = Applier(store, state, clock)
        self._node_health = NodeHealth(store, clock, node_rules)
        self._submitter = Submitter(store, state, clock, site)
        self._rounds = Rounds(state)
        self._notes = CellNotes(state)
        self._recorder = TickRecorder(state, scheduler_named)
        self.specs = self._ingestion.specs  # parsed once, or written by this process
        self._facts = RowFacts(self._spec)
        self._heartbeats: dict[str, float | None] = {}  # by job; the store has them a little later
        self._looked: Stamp | None = None
        self.last_hand_over = HandOver()
        self.urgent = False  # something short is under way: look again soon
        self.running: list[tuple[str, int]] = []  # (job, epoch) that have not left an exit record

    def run(self, *, lease_epoch: int) -> TickReport:
        """Do one tick. Raises `LeaseLost` when somebody else took over meanwhile."""
        with uncollected():
            return self._run(lease_epoch)

    def _run(self, lease_epoch: int) -> TickReport:
        moment = self._moment()
        if moment.resumed:
            begin_anew(self._store, self.looked, lease_epoch=lease_epoch)
        lines = self._ingestion.run(lease_epoch=lease_epoch)
        lines += settle_all(
            self._store, self._scheduler_named, self._clock, lease_epoch=lease_epoch
        )
        seen, warnings, effects = self._look(moment, lease_epoch)
        lines += seen
        # Nodes before effects: a task that was put back may begin as soon as its delay is gone,
        # and one that has begun cannot be told any more to keep off the node it was lost on.
        lines += self._node_health.look(self._default, lease_epoch=lease_epoch)
        lines += self._act(effects, lease_epoch)
        self._submitter.exclude_nodes = self._node_health.excluded
        lines += accept_late_results(self._store, self._state, lease_epoch=lease_epoch)
        end_overlong_waits(self._store, self._clock, lease_epoch=lease_epoch)
        handed = self._submitter.hand_over(
            self._due(lease_epoch), self._default, lease_epoch=lease_epoch
        )
        self.last_hand_over = handed
        lines += handed.happenings
        if handed.unreachable:
            warnings.append(f"{self._default.name}: {handed.unreachable}")
        hit("tick.done")
        return TickReport(
            happenings=tuple(lines),
            open_jobs=self._store.open_jobs(),
            unreachable=warnings[0] if warnings else None,
            warnings=tuple(warnings),
        )

    @property
    def looked(self) -> Stamp:
        """Return when the last tick looked. Raises `RuntimeError` before the first one."""
        if self._looked is None:
            raise RuntimeError("no tick was done yet")
        return self._looked

    def _moment(self) -> Moment:
        """Return now; `resumed` when this process, or a clock, stood still or jumped.

        Any process may have done the last tick: its clocks stand beside the heartbeat.
        """
        beat, own, now = read_beat(self._state), self._looked, Stamp.of(self._clock)
        last = beat.looked if beat is not None and beat.looked is not None else own
        self._looked = now
        return Moment(now=now.wall, resumed=not went_on(last, now) or stood_still(own, now))

    def _look(self, moment: Moment, lease_epoch: int) -> tuple[list[str], list[str], Effects]:
        """Observe live tasks, decide, commit; return happenings, warnings, and what is to do."""
        rows = self._store.live_tasks()
        self.urgent, self.running = False, []
        if not rows:
            return [], [], Effects()
        self._rounds.begin(frozenset(row["id"] for row in rows))
        self._notes.begin()
        jobs = self._facts.of(
            rows,
            stops=self._store.stops_open(),
            rehearsed=self._store.rehearsed(),
            heartbeats=self._heartbeats,
        )
        watcher_job = WatcherJobLook(self._state)
        observations = self._observe(jobs, watcher_job)
        publish_seen(self._state, observations, watcher_job=watcher_job.seen(observations))
        hit("tick.observed")
        decided, heartbeats = [], dict[str, float | None]()
        patiences = {
            name: patience_of(scheduler)
            for name in {job.task.scheduler for job in jobs}
            if (scheduler := self._scheduler_named(name)) is not None
        }
        for job in jobs:
            observation = observations.get(job.task.scheduler)
            answer = observation.answers.get(job.task.key) if observation else None
            evidence = self._evidence(job, answer)
            if (patience := patiences.get(job.task.scheduler)) is None:
                continue
            actions = reconcile(
                job, answer, evidence, moment, patience=patience, limits=self._limits
            )
            decided.append(Decided(job=job, evidence=evidence, actions=actions))
            if actions and isinstance(actions[0], SeeProgress):
                heartbeats[job.id] = actions[0].heartbeat_at
            self.urgent = self.urgent or _is_urgent(job, evidence)
            if (attempt := evidence.attempts[-1] if evidence.attempts else None) is not None:
                self.running += [(job.id, attempt.epoch)] if not attempt.exits else []
        self._heartbeats = heartbeats
        lines, effects = self._applier.apply(decided, lease_epoch=lease_epoch)
        lines += self._recorder.record(observations, self._applier.changed, moment)
        warnings = [f"{n}: {o.unreachable}" for n, o in observations.items() if o.unreachable]
        unknown = {j.task.scheduler for j in jobs} - set(observations)
        warnings += [f"no access to {name} here: its tasks are not observed" for name in unknown]
        return lines, warnings, effects

    def _observe(
        self, jobs: list[JobFacts], watcher_job: WatcherJobLook
    ) -> Mapping[str, Observation]:
        keys: dict[str, list[TaskKey]] = {}
        for job in jobs:
            keys.setdefault(job.task.scheduler, []).append(job.task.key)
        for name, some in keys.items():
            if (key := watcher_job.key(name)) is not None:
                some.append(key)
        return {
            name: scheduler.observe(asked)
            for name, asked in keys.items()
            if (scheduler := self._scheduler_named(name)) is not None
        }

    def _evidence(self, job: JobFacts, answer: Answer | None) -> Evidence:
        """Read the job directory, unless the task has never started: then there is nothing."""
        key = job.task.key
        if self._notes.departed(key):
            return self._notes.add(key, self._rounds.anew(job))
        untouched = job.epoch is None and job.task.seen in (None, *WAITING)
        if untouched and isinstance(answer, Known) and answer.state is TaskState.PENDING:
            return self._notes.add(key, Evidence())
        return self._notes.add(key, self._rounds.evidence(job, answer))

    def _act(self, effects: Effects, lease_epoch: int) -> list[str]:
        lines: list[str | None] = []
        for name, keys in _by_scheduler(effects.undelay).items():
            scheduler = self._scheduler_named(name)
            problems = scheduler.undelay(keys) if scheduler else {}
            lines += [f"{k.scheduler_id}: still delayed: {p}" for k, p in problems.items() if p]
        for name in {job.task.scheduler for job, _ in effects.releases}:
            held = [(job, a) for job, a in effects.releases if job.task.scheduler == name]
            if (scheduler := self._scheduler_named(name)) is not None:
                lines += self._applier.release(held, scheduler, lease_epoch=lease_epoch)
        cancels: dict[str, list[tuple[JobFacts, CancelTask]]] = {}
        for job, action in effects.stops:
            scheduler = self._scheduler_named(job.task.scheduler)
            if scheduler is None:
                continue
            match action:
                case Notify():
                    line = self._applier.notify(job, action, scheduler, lease_epoch=lease_epoch)
                    lines.append(line)
                case Kill():
                    line = self._applier.kill(job, action, scheduler, lease_epoch=lease_epoch)
                    lines.append(line)
                case CancelTask():
                    cancels.setdefault(job.task.scheduler, []).append((job, action))
        for name, some in cancels.items():  # one call for a matrix that is cancelled whole
            if (scheduler := self._scheduler_named(name)) is not None:
                lines += self._applier.cancel(some, scheduler, lease_epoch=lease_epoch)
        return [line for line in lines if line]

    def _spec(self, job: str) -> JobSpec:
        if job not in self.specs:
            self.specs[job] = self._store.spec_of(job)
        return self.specs[job]

    def _due(self, lease_epoch: int) -> list[DueJob]:
        """Return the jobs that may go now, in their order; remember which limits keep others."""
        database = self._store.database
        chosen = choose_due(database, now=self._clock.wall(), max_in_flight=self._max_in_flight)
        if chosen.full != remembered_full(database):
            with self._store.writing(lease_epoch):
                remember_full(database, chosen.full)
        return [
            DueJob(
                spec=self._spec(row["id"]),
                state=JobState(row["state"]),
                matrix=row["home"],
                overrides=Overrides.model_validate_json(row["overrides"]),
                attempts=row["attempts"],
                budget_epoch=row["budget_epoch"],
            )
            for row in chosen.rows
        ]


def _by_scheduler(effects: list[tuple[str, TaskKey]]) -> dict[str, list[TaskKey]]:
    grouped: dict[str, list[TaskKey]] = {}
    for name, key in effects:
        grouped.setdefault(name, []).append(key)
    return grouped


def _is_urgent(job: JobFacts, evidence: Evidence) -> bool:
    """Return whether this job has a step, a grace or a start that a slow loop would miss."""
    if job.stop is not None:
        return True
    if job.state is not JobState.RUNNING:
        return False
    awaited = job.spec.run.rehearsal is not None and not job.rehearsed
    return awaited or evidence.epoch is None or evidence.phase == "finished"
