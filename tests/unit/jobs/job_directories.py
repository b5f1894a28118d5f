"""Job directories as attempts leave them, for tests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from jobs.contract.paths import JobDir, StateDir, SubmissionDir, checkpoint_name
from jobs.contract.records import (
    EpochRecord,
    ErrorRecord,
    ExitRecord,
    Outcome,
    ProgressRecord,
    ResultRecord,
    StopCause,
    TaskRecord,
    TasksRecord,
)
from jobs.spec import JobSpec, RetrySpec, Run, Semantic, job_id

SEMANTIC = Semantic.model_validate_json(
    b"""{"model": {"family": "decoder", "config": {}}, "method": {"name": "full"},
    "task": {"name": "tsv", "path": "package:quickstart"}, "train": {"steps": 60}, "seed": 1}"""
)
TOTAL = 60


@dataclass(slots=True)
class Written:
    """A job directory that grows by attempts."""

    job: JobDir
    epoch: int = 0

    def attempt(
        self,
        *outcomes: Outcome,
        committed: int | None = None,
        checkpoint: int | None = None,
        phase: str | None = "training",
        resumed: int | None = None,
        resumed_epoch: int = 1,
        cause: StopCause | None = None,
        error: str | None = None,
        token: str = "t1",
        index: int | None = 0,
        restart: int = 0,
    ) -> Written:
        """Write one more attempt; `outcomes` are its ranks' records, none: died without a word."""
        self.epoch += 1
        put(self.job.epoch(self.epoch), claim(self.epoch, token, index, restart).to_json())
        directory = self.job.attempt(self.epoch)
        directory.path.mkdir(parents=True)
        if phase is not None:
            start = None if resumed is None else checkpoint_name(step=resumed, epoch=resumed_epoch)
            progress = ProgressRecord(
                epoch=self.epoch,
                sequence=1,
                phase=phase,
                step=committed or resumed or 0,
                total_steps=TOTAL,
                committed_step=committed,
                resumed_from=start,
                written_at=0.0,
            )
            put(directory.progress, progress.to_json())
        for rank, outcome in enumerate(outcomes):
            record = ExitRecord(
                epoch=self.epoch,
                rank=rank,
                outcome=outcome,
                cause=cause,
                exit_code=75,
                last_step=committed or 0,
                committed_step=committed,
                error=ErrorRecord(type="ValueError", message=error, digest="d") if error else None,
            )
            put(directory.exit_record(rank), record.to_json())
        if checkpoint is not None:
            name = checkpoint_name(step=checkpoint, epoch=self.epoch)
            (self.job.checkpoints / name).mkdir(parents=True)
        return self

    def result(self, *, job: str | None = None) -> Written:
        """Write a result."""
        record = ResultRecord(
            job=job or self.job.path.name,
            spec_digest="d",
            epoch=self.epoch,
            exact=True,
            metrics={},
            weights_digest="w",
            steps=TOTAL,
            trainable_parameters=1,
        )
        put(self.job.result, record.to_json())
        return self


def claim(epoch: int, token: str, index: int | None, restart: int) -> EpochRecord:
    """Return the claim of an attempt on Slurm."""
    return EpochRecord(
        epoch=epoch,
        token=token,
        scheduler="slurm",
        scheduler_id="7",
        array_task=index,
        restart_count=restart,
        host="h",
        boot_id="b",
        pid=1,
        pid_start=1,
        started_at=0.0,
    )


def new_job(home: Path, *, retry: RetrySpec | None = None) -> Written:
    """Return a job directory with its spec and no attempts."""
    identity = job_id(SEMANTIC)
    job = StateDir(home).job(identity)
    spec = JobSpec(id=identity, name="m/x", semantic=SEMANTIC, run=Run(retry=retry or RetrySpec()))
    put(job.spec, spec.to_json())
    return Written(job)


def new_submission(
    home: Path, written: Written, *, token: str = "t1", index: int = 0
) -> SubmissionDir:
    """Return a submission that serves the job as task `index`."""
    submission = StateDir(home).submission(token)
    tasks = (TaskRecord(index=index, job=written.job.path.name),)
    record = TasksRecord(token=token, scheduler="slurm", tasks=tasks)
    put(submission.tasks, record.to_json())
    return submission


def put(path: Path, data: bytes) -> None:
    """Write a file and the directories above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
