"""One attempt, as each of its ranks knows it before anything heavy is imported."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from durable.processes import ProcessIdentity
from jobs.contract.environment import RANK_TIMEOUT
from jobs.contract.paths import AttemptDir, JobDir, SubmissionDir
from jobs.contract.records import (
    BadRecord,
    EpochRecord,
    ResultRecord,
    TaskRecord,
    TasksRecord,
    WorkerSite,
    read_record,
)
from jobs.spec import JobSpec, Semantic, semantic_digest
from worker.failures import Misconfigured
from worker.layout import Layout


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """What this process was told to do, before it holds an epoch."""

    submission: SubmissionDir
    tasks: TasksRecord
    task: TaskRecord
    job: JobDir
    spec: JobSpec
    layout: Layout

    @property
    def dropped(self) -> bool:
        """Whether the orchestrator no longer wants this cell of a packed allocation."""
        return self.tasks.pack > 1 and self.submission.drop(self.task.index).exists()

    @property
    def ranks(self) -> int:
        """As many ranks as the spec says, or as a person wants for now."""
        return self.task.overrides.ranks or self.spec.semantic.engine.ranks

    @property
    def site(self) -> WorkerSite:
        """The part of site.yaml that a worker needs."""
        return self.tasks.site

    def claim_wanted(self, started_at: float) -> EpochRecord:
        """Return the claim that this launch makes; its epoch is chosen while claiming."""
        me = ProcessIdentity.current()
        layout = self.layout
        return EpochRecord(
            epoch=0,
            token=self.submission.token,
            scheduler=self.tasks.scheduler,
            # Locally the submission's token is the scheduler's id.
            scheduler_id=layout.scheduler_id or self.submission.token,
            array_task=layout.array_task,
            restart_count=layout.restart_count,
            launch_id=layout.launch_id,
            host=socket.gethostname(),
            boot_id=me.boot_id,
            pid=me.pid,
            pid_start=me.start,
            started_at=started_at,
            overrides=self.task.overrides,
            waivers=self.task.waivers,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """An assignment that holds an epoch."""

    assignment: Assignment
    claim: EpochRecord
    rank_timeout: float  # seconds after which a silent rank counts as lost

    @property
    def epoch(self) -> int:
        """The fencing number."""
        return self.claim.epoch

    @property
    def job(self) -> JobDir:
        """The job's directory."""
        return self.assignment.job

    @property
    def directory(self) -> AttemptDir:
        """All that this attempt writes outside the checkpoint store."""
        return self.job.attempt(self.epoch)

    @property
    def spec(self) -> JobSpec:
        """The job."""
        return self.assignment.spec

    @property
    def training(self) -> Semantic:
        """What the job trains. Raises TypeError for a command."""
        semantic = self.spec.semantic
        if not isinstance(semantic, Semantic):
            raise TypeError(f"job {self.spec.id} is a command, not a training")
        return semantic

    @property
    def layout(self) -> Layout:
        """This rank's place."""
        return self.assignment.layout


def read_assignment(submission: Path, layout: Layout) -> Assignment:
    """Return what tasks.json and spec.json say. Raises `Misconfigured` naming the file."""
    directory = SubmissionDir(submission.absolute())
    tasks = _read_tasks(directory)
    task = next((task for task in tasks.tasks if task.index == layout.index), None)
    if task is None:
        raise Misconfigured(f"{directory.tasks}: has no task of index {layout.index}")
    job = directory.state.job(task.job)
    return Assignment(
        submission=directory,
        tasks=tasks,
        task=task,
        job=job,
        spec=_read_spec(job, task.job),
        layout=layout,
    )


def is_packed(submission: Path) -> bool:
    """Return whether a submission's allocations have several cells. Raises `Misconfigured`."""
    return _read_tasks(SubmissionDir(submission.absolute())).pack > 1


def _read_tasks(directory: SubmissionDir) -> TasksRecord:
    try:
        tasks = read_record(directory.tasks, TasksRecord)
    except BadRecord as error:
        raise Misconfigured(str(error)) from error
    if tasks is None:
        raise Misconfigured(f"{directory.tasks}: missing; --submission must name a submission")
    return tasks


def _read_spec(job: JobDir, job_id: str) -> JobSpec:
    try:
        spec = JobSpec.model_validate_json(job.spec.read_bytes())
    except FileNotFoundError:
        raise Misconfigured(f"{job.spec}: missing; submit the matrix again") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise Misconfigured(f"{job.spec}: {where}: {first['msg']}") from error
    if spec.id != job_id:
        raise Misconfigured(f"{job.spec}: is of job {spec.id}, not of {job_id}")
    return spec


def valid_result(job: JobDir, spec: JobSpec) -> ResultRecord | None:
    """Return the job's result if it is there and is of this very spec."""
    try:
        result = read_record(job.result, ResultRecord)
    except BadRecord:
        return None
    if (
        result is None
        or result.job != spec.id
        or result.spec_digest != semantic_digest(spec.semantic)
        or not _whole(result, spec)
    ):
        return None
    return result


def _whole(result: ResultRecord, spec: JobSpec) -> bool:
    """Tell whether the result is of all steps, or of fewer where the job may stop early."""
    if not isinstance(spec.semantic, Semantic):
        return True
    train = spec.semantic.train
    return result.steps == train.steps or (
        train.early_stopping is not None and 0 < result.steps < train.steps
    )


def rank_timeout(site: WorkerSite, env: Mapping[str, str] = os.environ) -> float:
    """Return the bound on a dead or hung rank, in seconds. Raises `Misconfigured`."""
    text = env.get(RANK_TIMEOUT)
    if not text:
        return site.rank_timeout_seconds
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e6:
        raise Misconfigured(f"{RANK_TIMEOUT} is {text!r}, not a number of seconds")
    return seconds
