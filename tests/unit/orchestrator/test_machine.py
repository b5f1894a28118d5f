"""Submit, tick, crash, preempt, lose, hide … in any order, against what must hold at every step.

P1 no job is lost, P2 never two live copies that we know nothing of, P6 silence changes nothing,
P7 everything may be repeated.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from jobs.states import TERMINAL, JobState
from orchestrator.schedulers.base import OVER, TaskState
from orchestrator.service import Service
from tests.contract.stub import make_spec
from tests.unit.orchestrator.world import World

SPECS = [make_spec(seed, steps=10, retry={"node_failures": 1000}) for seed in range(1, 4)]
LIVE = [TaskState.PENDING, TaskState.RUNNING, TaskState.DELAYED]


class Orchestration(RuleBasedStateMachine):
    """The world of the service's tests, played at random."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="orch-machine-"))
        self.world = World(self.folder / "home")
        self.epochs = dict.fromkeys((s.id for s in SPECS), 0)
        self.submitted = False
        self.cancelled: set[str] = set()

    def teardown(self) -> None:
        """Forget the state directory."""
        self.world.service.close()
        shutil.rmtree(self.folder)

    def tasks(self, *states: TaskState) -> list:
        """Return the cluster's tasks in these states."""
        return [(key, task) for key, task in self.world.fake.tasks() if task.state in states]

    @rule(fault=st.sampled_from(["accept", "lost_ack", "lost_request", "refuse"]))
    def submit(self, fault: str) -> None:
        """A person submits, again and again; the answer may be anything."""
        self.world.fake.next_submit.clear()
        self.world.fake.next_submit.append(fault)
        self.world.submit(SPECS)
        self.submitted = True
        self.cancelled.clear()

    @rule(seconds=st.sampled_from([1.0, 40.0, 400.0]))
    def tick(self, seconds: float) -> None:
        """Time passes."""
        self.world.tick(seconds)

    @rule()
    def crash(self) -> None:
        """The orchestrator is replaced; only what it wrote and the cluster remain."""
        self.world.service.close()
        fake, clock = self.world.fake, self.world.clock
        self.world.service = Service.open(self.world.home, scheduler=fake, clock=clock)

    @rule(questions=st.integers(1, 4))
    def go_silent(self, questions: int) -> None:
        """The controller does not answer: only a result on disk may change a task's job (P6)."""
        before = {row.id: row.state for row in self.world.service.rows(None)}
        self.world.fake.unreachable = 100
        for _ in range(questions):
            self.world.tick(100.0)
        self.world.fake.unreachable = 0
        for row in self.world.service.rows(None):
            untouched = before[row.id] not in (JobState.NEW, JobState.RETRYING)
            if untouched and row.state is not JobState.COMPLETED:
                assert row.state is before[row.id]

    @precondition(lambda self: self.tasks(TaskState.PENDING))
    @rule(data=st.data())
    def start(self, data: st.DataObject) -> None:
        """A node takes a task, and its attempt claims the job."""
        key, task = data.draw(st.sampled_from(self.tasks(TaskState.PENDING)))
        self.epochs[task.job] += 1
        spec = next(s for s in SPECS if s.id == task.job)
        epoch = self.epochs[task.job]
        self.world.begin(key, spec, epoch=epoch, step=min(9, epoch))

    @precondition(lambda self: self.tasks(TaskState.RUNNING))
    @rule(data=st.data(), end=st.sampled_from(["requeue", "preempt", "node", "lose", "finish"]))
    def end(self, data: st.DataObject, end: str) -> None:
        """A running task ends, or its end is never told."""
        key, task = data.draw(st.sampled_from(self.tasks(TaskState.RUNNING)))
        match end:
            case "requeue":
                self.world.fake.preempt(key, requeue=True)
            case "preempt":
                self.world.fake.preempt(key, requeue=False)
            case "node":
                self.world.fake.end(key, TaskState.NODE_FAIL)
            case "lose":
                self.world.fake.lose(key)
            case "finish":
                self.world.finish(next(s for s in SPECS if s.id == task.job))
                self.world.fake.end(key, TaskState.COMPLETED, exit_code=0)

    @precondition(lambda self: self.tasks(*LIVE))
    @rule(data=st.data())
    def hide(self, data: st.DataObject) -> None:
        """Two listings, hours apart, leave a task out, the third has it: no evidence."""
        key, task = data.draw(st.sampled_from(self.tasks(*LIVE)))
        self.world.tick(1.0)
        if task.state in OVER:
            return  # that tick cancelled it
        self.world.fake.hide(key, 2)
        for _ in range(3):
            self.world.tick(4000.0)

    @precondition(lambda self: self.submitted)
    @rule(spec=st.sampled_from(SPECS))
    def cancel(self, spec: object) -> None:
        """A person cancels one job."""
        self.world.service.cancel(spec.id)  # type: ignore[attr-defined]
        self.cancelled.add(spec.id)  # type: ignore[attr-defined]

    @precondition(lambda self: self.submitted)
    @rule(spec=st.sampled_from(SPECS), wish=st.sampled_from(["hold", "release", "again"]))
    def interfere(self, spec: object, wish: str) -> None:
        """A person holds a job, lets it go, or starts it again."""
        getattr(self.world.service, wish)(spec.id)  # type: ignore[attr-defined]

    @invariant()
    def never_two_copies_of_a_job(self) -> None:
        """Tasks of one job that are not over: at most one, however often anything was repeated."""
        live = [task.job for _, task in self.world.fake.tasks() if task.state not in OVER]
        assert len(live) == len(set(live)), self.world.fake.tasks()

    @invariant()
    def a_result_is_final(self) -> None:
        """What is COMPLETED has a result and stays so; nothing else says it has one."""
        for row in self.world.service.rows(None):
            if row.state is JobState.COMPLETED:
                assert self.world.service.state.job(row.id).result.exists()

    @precondition(lambda self: self.submitted)
    @rule()
    def left_alone_every_job_ends(self) -> None:
        """P1: with a healthy cluster and enough ticks, every job is over."""
        self.world.fake.next_submit.clear()
        self.world.service.release(*(spec.id for spec in SPECS))
        for _ in range(60):
            self.world.tick(100.0)
            for key, task in self.tasks(TaskState.PENDING):
                spec = next(s for s in SPECS if s.id == task.job)
                self.epochs[task.job] += 1
                self.world.begin(key, spec, epoch=self.epochs[task.job], step=9)
            for key, task in self.tasks(TaskState.RUNNING):
                self.world.finish(next(s for s in SPECS if s.id == task.job))
                self.world.fake.end(key, TaskState.COMPLETED, exit_code=0)
            rows = self.world.service.rows(None)
            if all(row.state in TERMINAL for row in rows):
                break
        states = {row.id: (row.state, row.reason) for row in rows}
        assert len(states) == len(SPECS)
        assert all(state in TERMINAL for state, _ in states.values()), states


Orchestration.TestCase.settings = settings(
    max_examples=25,
    stateful_step_count=20,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],  # shrinking takes minutes: turn it on by hand
    suppress_health_check=list(HealthCheck),
)
TestOrchestration = Orchestration.TestCase
