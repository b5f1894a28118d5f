"""An attempt that a test plays: the worker's own claim and fence, everything else by hand."""

from __future__ import annotations

from dataclasses import dataclass, field

from checkpoints.errors import Fenced
from durable.files import publish_new
from jobs.contract.paths import JobDir, checkpoint_name
from jobs.contract.records import (
    EpochRecord,
    ErrorRecord,
    ExitRecord,
    Outcome,
    ProgressRecord,
    ResultRecord,
)
from jobs.spec import JobSpec, semantic_digest
from orchestrator.schedulers.base import TaskKey
from worker import claim as claiming


@dataclass(kw_only=True)
class PlayedAttempt:
    """One attempt; it may live on after the scheduler has given its job to another."""

    spec: JobSpec
    key: TaskKey
    job: JobDir
    epoch: int = 0
    step: int = 0
    sequence: int = 0
    left: bool = False
    # (epoch, highest claimed epoch at that moment), for each thing that was published
    published: list[tuple[int, int]] = field(default_factory=list)

    def begin(self, restarts: int) -> None:
        """Claim the job, and go on from its newest checkpoint."""
        wanted = EpochRecord(
            epoch=0,
            token=self.key.token,
            scheduler="fake",
            scheduler_id=self.key.scheduler_id,
            restart_count=restarts,
            host="h",
            boot_id="b",
            pid=1,
            pid_start=1,
            started_at=0,
        )
        self.epoch = claiming.claim(self.job, wanted).epoch
        self.job.checkpoints.mkdir(exist_ok=True)
        self.step = max((int(p.name[5:13]) for p in self.job.checkpoints.iterdir()), default=0)
        self.commit()

    def beat(self) -> None:
        """Give a sign of life, also when nobody waits for it any more."""
        self.sequence += 1
        record = ProgressRecord(
            epoch=self.epoch,
            sequence=self.sequence,
            phase="training",
            step=self.step,
            total_steps=self.spec.semantic.train.steps,
            committed_step=self.step,
            written_at=0,
        )
        self.job.attempt(self.epoch).progress.write_bytes(record.to_json())

    def commit(self) -> None:
        """Take a step and commit it, unless fenced."""
        if self._fenced():
            return
        self.step += 1
        (self.job.checkpoints / checkpoint_name(step=self.step, epoch=self.epoch)).mkdir()
        self._note()
        self.beat()

    def finish(self) -> None:
        """Publish the result, unless fenced."""
        if self._fenced():
            return
        result = ResultRecord(
            job=self.spec.id,
            spec_digest=semantic_digest(self.spec.semantic),
            epoch=self.epoch,
            exact=True,
            metrics={"test": {"loss": 0.5}},
            weights_digest="sha256:00",
            steps=10,
            trainable_parameters=3,
        )
        if publish_new(self.job.result, result.to_json()):
            self._note()
        self.leave(Outcome.COMPLETED)

    def leave(self, outcome: Outcome) -> None:
        """Write rank 0's account of the end."""
        self.left = True
        error = None
        if outcome is Outcome.EXCEPTION:
            error = ErrorRecord(type="KeyError", message="'label'", digest="d")
        record = ExitRecord(
            epoch=self.epoch,
            rank=0,
            outcome=outcome,
            exit_code=1,
            last_step=self.step,
            committed_step=self.step,
            error=error,
        )
        self.job.attempt(self.epoch).exit_record(0).write_bytes(record.to_json())

    def _fenced(self) -> bool:
        try:
            claiming.check_fence(self.job, self.epoch)
        except Fenced:
            self.leave(Outcome.FENCED)
            return True
        return False

    def _note(self) -> None:
        self.published.append((self.epoch, claiming.epochs(self.job)[-1]))
