"""What the state machine plays on: a state directory, a cluster, its workers, the model."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis.stateful import RuleBasedStateMachine

from durable import faults
from jobs.spec import JobSpec
from jobs.states import JobState
from orchestrator.fault_points import FAULT_POINTS
from orchestrator.schedulers.base import TaskKey, TaskState
from orchestrator.schedulers.fake import FakeTask
from orchestrator.service import Service
from tests.contract.stub import make_spec
from tests.unit.orchestrator.played_attempt import PlayedAttempt
from tests.unit.orchestrator.world import World

RETRY = {"node_failures": 10_000, "launch_failures": 10_000}
SPECS = [make_spec(seed, steps=1000, retry=RETRY) for seed in range(1, 4)]
BY_ID = {spec.id: spec for spec in SPECS}
LIVE = [TaskState.PENDING, TaskState.RUNNING, TaskState.DELAYED]
POINTS = sorted(
    p for p in FAULT_POINTS if p.partition(".")[0] not in ("local", "slurm", "migrate", "rebuild")
)
DAY = 86_400.0
FOLDER = "/dev/shm" if Path("/dev/shm").is_dir() else None


class Crash(BaseException):
    """The orchestrator is no more."""


@contextmanager
def dying_at(point: str) -> Iterator[None]:
    """Whoever passes the fault point dies there; what it had not made durable is gone."""

    def die(fault: faults.Fault) -> None:
        raise Crash(fault.name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(faults, "_act", die)
        patch.setenv("ORCH_FAULT", f"{point}:kill")
        faults.reset()
        try:
            yield
        except Crash:
            pass
        finally:
            patch.undo()
            faults.reset()


class Stage(RuleBasedStateMachine):
    """Two orchestrators that take turns on one state directory, a cluster, and its workers."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="orch-machine-", dir=FOLDER))
        self.world = World(self.folder / "home")
        self.fake, self.clock = self.world.fake, self.world.clock
        self.other = self._open()
        self.attempts: list[PlayedAttempt] = []
        self.submitted = False
        self.cancelled: dict[str, int] = {}  # by whom ever, and how many tasks it had then
        self.asked: set[str] = set()  # somebody began to cancel it; it may have died on the way
        self.failed: set[str] = set()
        self.strangers: list[FakeTask] = []

    def teardown(self) -> None:
        """Forget the state directory."""
        self.world.service.close()
        self.other.close()
        shutil.rmtree(self.folder)

    # --- inside

    def tasks(self, *states: TaskState) -> list[tuple[TaskKey, FakeTask]]:
        """Return the cluster's tasks in these states, strangers left out."""
        ours = [(k, t) for k, t in self.fake.tasks() if t.token != "stranger"]
        return [(key, task) for key, task in ours if task.state in states]

    def _open(self) -> Service:
        return Service.open(self.world.home, scheduler=self.fake, clock=self.clock)

    def _replace(self) -> None:
        self.world.service.close()
        self.world.service = self._open()

    def _database(self) -> Any:
        return self.world.service.store.database

    def _submit(self) -> None:
        # Asking again starts what a person had stopped, not what an exception has ended.
        self.cancelled.clear()
        self.world.submit(SPECS)
        self.submitted = True  # only now was it promised

    def _cancel(self, spec: JobSpec) -> None:
        if self.world.service.rows(None):
            self.asked.add(spec.id)
            self.world.service.cancel(spec.id)
            self.cancelled.setdefault(spec.id, self._count(spec.id))

    def _start(self, key: TaskKey, task: FakeTask) -> None:
        self.fake.start(key)
        job = self.world.service.state.job(task.job)
        attempt = PlayedAttempt(spec=BY_ID[task.job], key=key, job=job)
        attempt.begin(task.restarts)
        self.attempts.append(attempt)

    def _end_attempts(self, key: TaskKey) -> None:
        for attempt in self.attempts:
            if attempt.key == key:
                attempt.left = True

    def _pass(self, seconds: float) -> None:
        self.clock.advance(seconds)
        for attempt in self.attempts:
            if not attempt.left:
                attempt.beat()

    def _states(self) -> dict[str, JobState]:
        return {row.id: row.state for row in self.world.service.rows(None)}

    def _changed(self, before: dict[str, JobState]) -> dict[str, tuple[JobState, JobState]]:
        now = self._states()
        return {job: (old, now[job]) for job, old in before.items() if now[job] is not old}

    def _ended_by_us(self) -> list[object]:
        return [what for verb, what in self.fake.log if verb in ("kill", "cancel")]

    def _count(self, job: str) -> int:
        return self.fake.accepted[job]
