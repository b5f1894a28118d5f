"""A service with a fake cluster and a clock that moves when told, and hands to play them."""

from __future__ import annotations

from pathlib import Path

from durable.clock import FakeClock
from jobs.contract.paths import checkpoint_name
from jobs.contract.records import (
    EpochRecord,
    ErrorRecord,
    ExitRecord,
    Outcome,
    ProgressRecord,
    ResultRecord,
)
from jobs.spec import JobSpec, semantic_digest
from jobs.states import JobState
from orchestrator.rows import SubmitReport, TickReport
from orchestrator.schedulers.base import TaskKey
from orchestrator.schedulers.fake import FakeScheduler
from orchestrator.service import Service
from tests.contract.stub import make_matrix, make_spec

SPECS = [make_spec(seed, steps=10) for seed in range(1, 4)]


class World:
    """A service, its fake cluster, and hands that do what workers do."""

    def __init__(self, home: Path, **options: object) -> None:
        self.home = home
        self.clock = FakeClock()
        self.fake = FakeScheduler(clock=self.clock)
        self.service = Service.open(home, scheduler=self.fake, clock=self.clock, **options)

    def submit(self, specs: list[JobSpec] | None = None, name: str = "stub") -> SubmitReport:
        """Submit a matrix."""
        return self.service.submit([make_matrix(specs or SPECS, name=name)])

    def task_keys(self) -> list[TaskKey]:
        """Return the cluster's tasks."""
        return [key for key, _ in self.fake.tasks()]

    def tick(self, seconds: float = 10.0) -> TickReport:
        """Let time pass and look."""
        self.clock.advance(seconds)
        return self.service.tick()

    def state(self, spec: JobSpec) -> JobState:
        """Return a job's state."""
        return self.service.rows(spec.id)[0].state

    def begin(
        self,
        key: TaskKey,
        spec: JobSpec,
        *,
        epoch: int = 1,
        step: int = 4,
        committed: int | None = None,
        resumed: tuple[int, int] | None = None,
        started_at: float = 0.0,
        node: str = "fake1",
    ) -> None:
        """Be an attempt that has reached a step; `resumed`: epoch and step of a checkpoint."""
        self.fake.start(key, node)
        job = self.service.state.job(spec.id)
        attempt = job.attempt(epoch)
        attempt.path.mkdir(parents=True, exist_ok=True)
        job.epochs.mkdir(exist_ok=True)
        claim = EpochRecord(
            epoch=epoch,
            token=key.token,
            scheduler="fake",
            scheduler_id=key.scheduler_id,
            host="h",
            boot_id="b",
            pid=1,
            pid_start=1,
            started_at=started_at,
        )
        job.epoch(epoch).write_bytes(claim.to_json())
        progress = ProgressRecord(
            epoch=epoch,
            sequence=1,
            phase="training",
            step=step,
            total_steps=10,
            committed_step=step if committed is None else committed,
            resumed_from=checkpoint_name(epoch=resumed[0], step=resumed[1]) if resumed else None,
            written_at=self.clock.wall(),
        )
        attempt.progress.write_bytes(progress.to_json())

    def fail(
        self,
        spec: JobSpec,
        outcome: Outcome,
        *,
        epoch: int = 1,
        digest: str = "d",
        traceback: str = "",
        written_at: float | None = None,
    ) -> None:
        """Be an attempt's rank 0 that says how it ended."""
        errors = (Outcome.EXCEPTION, Outcome.DEVICE_OOM, Outcome.CONFIGURATION)
        error = ErrorRecord(type="KeyError", message="'label'", digest=digest, traceback=traceback)
        record = ExitRecord(
            epoch=epoch,
            rank=0,
            outcome=outcome,
            exit_code=1,
            last_step=4,
            written_at=written_at,
            error=error if outcome in errors else None,
        )
        attempt = self.service.state.job(spec.id).attempt(epoch)
        attempt.exit_record(0).write_bytes(record.to_json())

    def finish(self, spec: JobSpec, **changes: object) -> None:
        """Publish a result."""
        result = ResultRecord(
            job=spec.id,
            spec_digest=semantic_digest(spec.semantic),
            epoch=1,
            exact=True,
            metrics={"test": {"loss": 0.5}},
            weights_digest="sha256:00",
            steps=10,
            trainable_parameters=3,
        ).model_copy(update=changes)
        self.service.state.job(spec.id).result.write_bytes(result.to_json())
