"""One run of the orchestrator, for tests that kill it: submit, then watch until idle.

    python -m tests.crash.orchestrator_child HOME SCHEDULER JOBS VERB

VERB `cancel`: cancel the matrix once it runs; `submit`: let it run; `watch`: submit nothing;
`held`: as `submit`, but the scheduler holds every task once; `node`: as `submit`, but the first
node fails under its job. SCHEDULER `local` runs the stub worker; `fake` keeps its cluster in
HOME/fake.json and lets every running task finish (its result published) at the second look.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from durable.clock import SystemClock
from durable.files import publish_new
from jobs.contract.records import EpochRecord, ResultRecord
from jobs.spec import semantic_digest
from orchestrator.facts import Patience
from orchestrator.schedulers.base import Observation, TaskKey, TaskState
from orchestrator.schedulers.fake import FakeScheduler
from orchestrator.schedulers.local import LocalScheduler
from orchestrator.service import Service
from tests.contract.stub import LAUNCH_ARGV, make_matrix, make_spec


class BusyFake(FakeScheduler):
    """A fake cluster whose nodes work: each look starts what waits and ends what ran."""

    home: Path
    holds = False  # every task, once, as after a failed launch
    loses = False  # the node of the first task, once, while the others wait

    def observe(self, keys: Sequence[TaskKey]) -> Observation:
        """Let the cluster do a step, then answer."""
        if self.loses and not (self.home / "node-lost").exists():
            self._lose_a_node()
            return super().observe(keys)
        for key, task in self.tasks():
            if task.state is TaskState.RUNNING:
                self._finish(key, task.job)
            elif task.state is TaskState.PENDING and not self._held(key):
                self.start(key)
        return super().observe(keys)

    def _lose_a_node(self) -> None:
        key, task = self.tasks()[0]
        if task.state is TaskState.PENDING:
            self.start(key)
        else:
            (self.home / "node-lost").touch()
            self.end(key, TaskState.NODE_FAIL)

    def _held(self, key: TaskKey) -> bool:
        mark = self.home / f"held-{key.token}-{key.index}"
        if not self.holds or mark.exists():
            return False
        mark.touch()
        self.hold(key, "launch failed requeued held", by_scheduler=True)
        return True

    def _finish(self, key: TaskKey, job: str) -> None:
        directory = self.home / "jobs" / job
        (directory / "epochs").mkdir(exist_ok=True)
        epoch = len(list((directory / "epochs").iterdir())) + 1
        claim = EpochRecord(
            epoch=epoch,
            token=key.token,
            scheduler="fake",
            scheduler_id=key.scheduler_id,
            host="fake1",
            boot_id="b",
            pid=1,
            pid_start=1,
            started_at=0.0,
        )
        publish_new(directory / "epochs" / f"{epoch:04d}.json", claim.to_json())
        spec = next(s for s in specs(64) if s.id == job)
        result = ResultRecord(
            job=job,
            spec_digest=semantic_digest(spec.semantic),
            epoch=epoch,
            exact=True,
            metrics={},
            weights_digest="sha256:00",
            steps=1,
            trainable_parameters=1,
        )
        publish_new(directory / "result.json", result.to_json())
        self.end(key, TaskState.COMPLETED, exit_code=0)


def specs(count: int) -> list:
    """Return the jobs of these tests; the first is rehearsed."""
    first = make_spec(1, steps=6, grace_seconds=2.0, rehearsal={"at_step": 2})
    return [first, *(make_spec(seed, steps=3) for seed in range(2, count + 1))]


def main(home: Path, scheduler_name: str, count: int, verb: str) -> int:
    """Do everything once; print the rows as JSON."""
    if scheduler_name == "fake":
        patience = Patience(absent_answers=1, absent_seconds=0.0, find_answers=1, quiet_seconds=0.0)
        fake = BusyFake(path=home / "fake.json", clock=SystemClock(), patience=patience)
        fake.home, fake.holds, fake.loses = home, verb == "held", verb == "node"
        fake.node_names = ("fake1", "fake2", "fake3", "fake4")
        service = Service.open(home, scheduler=fake)
    else:
        local = LocalScheduler(home, cpus=2, launch_argv=LAUNCH_ARGV)
        service = Service.open(home, scheduler=local, tick_seconds=0.05)
    if verb != "watch":
        service.submit([make_matrix(specs(count))])
    if verb == "cancel":
        service.tick()
        service.cancel("stub")
    service.watch(until_idle=True, on_tick=lambda report: None, stop=threading.Event())
    print(
        json.dumps([{"id": r.id, "state": r.state, "attempts": r.attempts} for r in service.rows()])
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]))
