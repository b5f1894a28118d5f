"""The state machine: submit, tick, crash, preempt, lose, hide, duplicate … against a small model.

The model is what a person would keep on paper: which jobs were asked for, which of them somebody
cancelled, which of them threw an exception. Everything else must follow. After each step:

P1 left alone, every job that nobody cancelled and that threw nothing ends with a result
P2 one live task per job; nothing is published by an attempt while a newer epoch holds the job
P6 silence, garbage and a clock that jumps change nothing
P7 a crash at any fault point, and any repetition, leaves a state from which the rest holds
P8 no preemption, node failure or loss makes a job FAILED; only an exception does
P9 whoever lost the lease writes nothing; a stranger's job is never touched
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from durable.locks import Locked
from jobs.contract.records import Outcome
from jobs.spec import JobSpec
from jobs.states import TERMINAL, JobState
from orchestrator.database import LeaseLost
from orchestrator.lease import Lease
from orchestrator.schedulers.base import OVER, TaskState
from orchestrator.schedulers.fake import FakeTask
from tests.unit.orchestrator.stage import DAY, LIVE, POINTS, SPECS, Stage, dying_at


class Orchestration(Stage):
    """The rules and what must hold."""

    # --- people and orchestrators

    @rule(fault=st.sampled_from(["lost_ack", "accept", "lost_request", "refuse"]))
    def submit(self, fault: str) -> None:
        """A person submits, again and again; the answer may be anything."""
        self.fake.next_submit.clear()
        self.fake.next_submit.append(fault)
        self._submit()

    @rule(seconds=st.sampled_from([1.0, 40.0, 400.0]))
    def tick(self, seconds: float) -> None:
        """Time passes, and healthy attempts beat."""
        self._pass(seconds)
        self.world.service.tick()

    @rule()
    def take_turns(self) -> None:
        """The other orchestrator goes on; the first had been paused in a transaction's shadow."""
        lease = Lease(self.world.service.state, self._database(), self.clock, verb="watch")
        lease.acquire()
        with pytest.raises(Locked):
            self.other.tick()
        lease.release()
        self.other.tick()
        with pytest.raises(LeaseLost), self.world.service.store.writing(lease.epoch):
            raise AssertionError("a holder that was paused wrote")
        self.world.service, self.other = self.other, self.world.service

    @rule(point=st.sampled_from(POINTS), verb=st.sampled_from(["tick", "tick", "submit", "cancel"]))
    def crash(self, point: str, verb: str) -> None:
        """The orchestrator dies at a fault point of a verb, and is replaced."""
        with dying_at(point):
            if verb == "submit":
                self._submit()
            elif verb == "cancel" and self.submitted:
                self._cancel(SPECS[0])
            else:
                self.world.service.tick()
        self._replace()

    @precondition(lambda self: self.submitted)
    @rule(spec=st.sampled_from(SPECS))
    def cancel(self, spec: JobSpec) -> None:
        """A person cancels one job."""
        self._cancel(spec)

    @precondition(lambda self: self.submitted)
    @rule(spec=st.sampled_from(SPECS), wish=st.sampled_from(["hold", "release", "again"]))
    def interfere(self, spec: JobSpec, wish: str) -> None:
        """A person holds a job, lets it go, or starts it again."""
        if wish != "hold":
            self.cancelled.pop(spec.id, None)
        getattr(self.world.service, wish)(spec.id)

    # --- the scheduler's silence

    @rule(questions=st.integers(1, 5), garbage=st.booleans())
    def go_silent(self, questions: int, garbage: bool) -> None:
        """The controller does not answer, or nonsense: only a result on disk changes a job."""
        self.fake.unreachable, self.fake.garbled = (0, 100) if garbage else (100, 0)
        before = self._states()
        for _ in range(questions):
            self._pass(100.0)
            self.world.service.tick()
        self.fake.unreachable = self.fake.garbled = 0
        for job, (old, new) in self._changed(before).items():
            waited = old in (JobState.NEW, JobState.RETRYING, JobState.SUBMITTED)
            # Asked for again while nobody knew whether its last submission had arrived.
            waited |= old is JobState.CANCELLED and job not in self.cancelled
            assert waited or new is JobState.COMPLETED, (job, old, new)

    @rule(seconds=st.sampled_from([-DAY, -3600.0, 3600.0, DAY]), replaced=st.booleans())
    def jump(self, seconds: float, replaced: bool) -> None:
        """The clock jumps, under a process or between two: nobody is stalled, lost or killed."""
        self.world.service.tick()
        before, asked = self._states(), len(self._ended_by_us())
        self.clock.jump_wall(seconds)
        if replaced:
            self._replace()
        for _ in range(2):
            self.world.service.tick()
        assert len(self._ended_by_us()) == asked
        for job, (old, new) in self._changed(before).items():
            assert old is not JobState.RUNNING or new is JobState.COMPLETED, (job, old, new)

    @precondition(lambda self: self.tasks(*LIVE))
    @rule(data=st.data())
    def hide(self, data: st.DataObject) -> None:
        """Two listings, hours apart, leave a task out, the third has it: no evidence."""
        key, task = data.draw(st.sampled_from(self.tasks(*LIVE)))
        self.world.tick(1.0)
        if task.state in OVER:
            return  # that tick cancelled it
        self.fake.hide(key, 2)
        for _ in range(3):
            self._pass(4000.0)
            self.world.service.tick()

    # --- the cluster

    @precondition(lambda self: self.tasks(TaskState.PENDING))
    @rule(data=st.data())
    def start(self, data: st.DataObject) -> None:
        """A node takes a task, and its attempt claims the job."""
        self._start(*data.draw(st.sampled_from(self.tasks(TaskState.PENDING))))

    @precondition(lambda self: self.tasks(TaskState.RUNNING))
    @rule(
        data=st.data(),
        end=st.sampled_from(["requeue", "preempt", "node", "time_limit", "lose"]),
        ghost=st.booleans(),
    )
    def end(self, data: st.DataObject, end: str, ghost: bool) -> None:
        """A task ends, or its end is never told; as a ghost, its attempt has not noticed."""
        key, _ = data.draw(st.sampled_from(self.tasks(TaskState.RUNNING)))
        if not ghost:
            self._end_attempts(key)
        match end:
            case "requeue":
                self.fake.preempt(key, requeue=True)
            case "preempt":
                self.fake.preempt(key, requeue=False)
            case "node":
                self.fake.end(key, TaskState.NODE_FAIL)
            case "time_limit":
                self.fake.end(key, TaskState.TIMEOUT)
            case "lose":
                self.fake.lose(key)

    @precondition(lambda self: self.tasks(TaskState.RUNNING))
    @rule(data=st.data(), outcome=st.sampled_from(["result", "exception", "person", "copy"]))
    def decide_job(self, data: st.DataObject, outcome: str) -> None:
        """A task ends in a way that decides the job; or the site shows a second copy of it."""
        key, task = data.draw(st.sampled_from(self.tasks(TaskState.RUNNING)))
        attempt = next(a for a in reversed(self.attempts) if a.key == key)
        match outcome:
            case "result":
                attempt.finish()
                self.fake.end(key, TaskState.COMPLETED, exit_code=0)
            case "exception" if not attempt.job.result.exists():
                attempt.leave(Outcome.EXCEPTION)
                self.failed.add(task.job)
                self.fake.end(key, TaskState.FAILED, exit_code=1)
            case "person":
                self._end_attempts(key)
                self.fake.end(key, TaskState.CANCELLED, by_person=True)
                self.world.tick(1.0)
                if task.job not in self.failed:
                    self.cancelled.setdefault(task.job, self._count(task.job))

    @precondition(lambda self: self.tasks(*LIVE))
    @rule(requeue=st.booleans(), times=st.integers(1, 4))
    def storm(self, requeue: bool, times: int) -> None:
        """Everything that runs is preempted, again and again."""
        for _ in range(times):
            self.world.tick(10.0)
            for key, task in self.tasks(TaskState.PENDING):
                self._start(key, task)
            self.world.tick(10.0)
            for key, _ in self.tasks(TaskState.RUNNING):
                self._end_attempts(key)
                self.fake.preempt(key, requeue=requeue)

    @precondition(lambda self: self.tasks(TaskState.RUNNING))
    @rule(data=st.data(), lost=st.booleans(), last=st.sampled_from(["commit", "finish"]))
    def haunt(self, data: st.DataObject, lost: bool, last: str) -> None:
        """A node only looked dead: its attempt goes on after another one has begun."""
        key, task = data.draw(st.sampled_from(self.tasks(TaskState.RUNNING)))
        ghost = next(a for a in reversed(self.attempts) if a.key == key)
        if lost:
            self.fake.preempt(key, requeue=True)
        else:
            self.fake.end(key, TaskState.NODE_FAIL)
        self.world.tick(10.0)
        for new, waiting in self.tasks(TaskState.PENDING):
            if waiting.job == task.job:
                self._start(new, waiting)
        if not ghost.left:
            ghost.beat()
            ghost.commit() if last == "commit" else ghost.finish()
        self.world.tick(10.0)

    @precondition(lambda self: self.attempts)
    @rule(data=st.data(), what=st.sampled_from(["beat", "commit", "finish", "saved"]))
    def act(self, data: st.DataObject, what: str) -> None:
        """Any attempt that has not left acts, be it the newest or one that time has passed by."""
        alive = [a for a in self.attempts if not a.left]
        if not alive:
            return
        attempt = data.draw(st.sampled_from(alive))
        actions: dict[str, Callable[[], None]] = {
            "beat": attempt.beat,
            "commit": attempt.commit,
            "finish": attempt.finish,
            "saved": lambda: attempt.leave(Outcome.SAVED),
        }
        actions[what]()
        task = next((t for k, t in self.fake.tasks() if k == attempt.key), None)
        newest = attempt is [a for a in self.attempts if a.key == attempt.key][-1]
        if attempt.left and newest and task is not None and task.state is TaskState.RUNNING:
            over = TaskState.COMPLETED if what == "finish" else TaskState.FAILED
            code = {"finish": 0, "saved": 75}.get(what, 1)
            self.fake.end(attempt.key, over, exit_code=code)

    @precondition(lambda self: self.tasks(*LIVE))
    @rule(data=st.data())
    def reissue_an_id(self, data: st.DataObject) -> None:
        """The controller forgets a task and gives its number to a stranger (V1)."""
        key, _ = data.draw(st.sampled_from(self.tasks(*LIVE)))
        self._end_attempts(key)
        self.fake.lose(key)
        stranger = FakeTask(
            token="stranger",
            scheduler_id=key.scheduler_id,
            index=key.index,
            job="theirs",
            state=TaskState.RUNNING,
        )
        self.fake.add_stranger(stranger)
        self.strangers.append(stranger)

    # --- what must hold

    @invariant()
    def never_two_live_tasks_of_a_job(self) -> None:
        """P2, the scheduler's side, however often anything was repeated."""
        live = [task.job for _, task in self.tasks(*set(TaskState) - OVER)]
        assert len(live) == len(set(live)), self.fake.tasks()

    @invariant()
    def only_the_newest_epoch_publishes(self) -> None:
        """P2, the worker's side."""
        for attempt in self.attempts:
            assert all(own == newest for own, newest in attempt.published), attempt

    @invariant()
    def a_result_is_final(self) -> None:
        """COMPLETED has a result and stays so."""
        for row in self.world.service.rows(None):
            if row.state is JobState.COMPLETED:
                assert self.world.service.state.job(row.id).result.exists()

    @invariant()
    def only_exceptions_fail(self) -> None:
        """P8: preemptions, lost nodes and lost tasks with progress are free."""
        for row in self.world.service.rows(None):
            if row.state is JobState.FAILED:
                assert row.id in self.failed, row.reason

    @invariant()
    def an_end_is_recorded_once(self) -> None:
        """P7: no attempt is charged twice."""
        for row in self.world.service.rows(None):
            epochs = [e.epoch for e in self.world.service.store.ends_of(row.id) if e.epoch]
            assert len(epochs) == len(set(epochs)), epochs

    @invariant()
    def what_a_person_ended_stays_ended(self) -> None:
        """No new task for it."""
        for job, tasks in self.cancelled.items():
            assert self._count(job) <= tasks, job

    @invariant()
    def strangers_are_left_alone(self) -> None:
        """P9: a job id is no proof."""
        assert all(task.state is TaskState.RUNNING for task in self.strangers)

    @precondition(lambda self: self.submitted)
    @rule()
    def left_alone_every_job_ends(self) -> None:
        """P1: with a healthy cluster and enough ticks, every job is over, for a known reason."""
        self.fake.next_submit.clear()
        cancelled = self.asked | set(self.cancelled)
        self.world.service.release(*(spec.id for spec in SPECS))
        for _ in range(60):
            self._pass(100.0)
            self.world.service.tick()
            for key, task in self.tasks(TaskState.PENDING):
                self._start(key, task)
            for key, _ in self.tasks(TaskState.RUNNING):
                next(a for a in reversed(self.attempts) if a.key == key).finish()
                self.fake.end(key, TaskState.COMPLETED, exit_code=0)
            rows = self.world.service.rows(None)
            if all(row.state in TERMINAL for row in rows):
                break
        assert len(rows) == len(SPECS)
        for row in rows:
            allowed = {JobState.COMPLETED}
            allowed |= {JobState.CANCELLED} if row.id in cancelled else set()
            allowed |= {JobState.FAILED} if row.id in self.failed else set()
            assert row.state in allowed, (row.state, row.reason)
