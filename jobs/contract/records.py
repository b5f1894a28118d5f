"""The JSON records that orchestrator and worker exchange (DESIGN: "Fixed records").

Readers ignore fields they do not know, so that a newer writer may add some; no field here is
ever renamed. `read_record` is the one door from disk: it returns a value, or raises
`BadRecord` naming the file; a missing file is `None`.
"""

from __future__ import annotations

import errno
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from durable.regular import read_regular

MAX_RECORD_BYTES = 4 << 20


class BadRecord(ValueError):
    """A record on disk is not what it should be; the message names the file and the field."""


class Record(BaseModel):
    """Base of all records: frozen, tolerant of unknown fields when read."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    schema_version: int = 1

    def to_json(self) -> bytes:
        """Return the record as one line of JSON."""
        return self.model_dump_json().encode() + b"\n"


class Distrusted(BaseModel):
    """A checkpoint that the next attempt puts into quarantine before it resumes."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    checkpoint: str  # its name, which has step and epoch: never met again
    died_at: int  # the step at which the attempts that resumed from it died
    reason: str


class Overrides(BaseModel):
    """What one submission changes about a job without editing its spec."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    micro_batch: int | None = None
    ranks: int | None = None  # a person's (`orch retry --ranks`); the global batch stays
    memory_gb: float | None = None
    distrusted: tuple[Distrusted, ...] = ()
    waive: tuple[str, ...] = ()  # what a person let pass for this job (`orch retry --waive`)


class TaskRecord(BaseModel):
    """One array index of a submission."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    index: int = Field(ge=0)
    job: str
    overrides: Overrides = Overrides()
    waivers: tuple[str, ...] = ()  # of the spec and of the overrides
    budget_epoch: int = 0  # attempts up to this one count against no budget


class WorkerSite(BaseModel):
    """The part of site.yaml that a worker needs."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    models_root: str | None = None
    data_root: str | None = None
    scratch_root: str | None = None  # checkpoints go there; it may be purged
    node_scratch_root: str | None = None  # a node's own disk; saves go there first
    hub_cache: str | None = None  # where models of a hub were fetched to
    interface: str | None = None  # network interface for gloo / nccl
    masked_words: tuple[str, ...] = ()
    rank_timeout_seconds: float = 60.0


class TasksRecord(Record):
    """tasks.json: immutable once the submission's intent is committed."""

    token: str
    scheduler: Literal["local", "slurm", "fake"]
    tasks: tuple[TaskRecord, ...]
    site: WorkerSite = WorkerSite()
    # The order of submissions, whatever the clock does: lease epoch, count within it.
    lease: int = 0
    number: int = 0
    # So many tasks share one allocation: of array index n, those from n x pack on.
    pack: int = Field(default=1, ge=1)

    def allocations(self) -> tuple[int, ...]:
        """Return the array indices."""
        return tuple(sorted({task.index // self.pack for task in self.tasks}))

    def cells_of(self, allocation: int) -> tuple[TaskRecord, ...]:
        """Return the tasks that an array index serves."""
        return tuple(task for task in self.tasks if task.index // self.pack == allocation)


class DepartureRecord(Record):
    """cells/NNNNN.left.json: this submission runs the task no more, though its allocation lives.

    Created once, by whoever ran the task, after its last process had ended.
    """

    index: int
    epoch: int | None = None  # the job's newest claim then; a newer one of ours came from a copy
    exit_code: int | None = None  # None: it was never started
    reason: str
    out_of_memory: bool = False


class DropRecord(Record):
    """cells/NNNNN.drop.json: the orchestrator wants this task of a packed allocation ended."""

    at: float  # wall clock
    grace_seconds: float


class EpochRecord(Record):
    """epochs/NNNN.json: O_EXCL-created by an attempt's rank 0; the highest one holds the job."""

    epoch: int
    token: str
    scheduler: str
    scheduler_id: str
    array_task: int | None = None
    restart_count: int = 0
    launch_id: str | None = None
    host: str
    boot_id: str
    pid: int
    pid_start: int
    started_at: float
    overrides: Overrides = Overrides()
    waivers: tuple[str, ...] = ()
    packages: str | None = None  # lock digest of the installed packages


class NoticedRecord(Record):
    """attempts/NNNN/noticed.json: rank 0 got a notice; the file's mtime is when it last lived."""

    epoch: int
    cause: str
    noticed_at: float  # wall clock, as the mtime


class Notice(BaseModel):
    """A preemption notice as the worker saw it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    cause: str
    deadline: float | None = None  # wall clock, seconds


class Spent(BaseModel):
    """What an attempt's seconds went into, by a monotonic clock since its claim.

    `replayed`: training and evaluating that an earlier attempt had done already. `suspended`:
    the process stood still (SIGSTOP, a suspended job); no other part has it.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    starting: float = 0.0
    training: float = 0.0
    replayed: float = 0.0
    evaluating: float = 0.0
    saving: float = 0.0
    testing: float = 0.0
    suspended: float = 0.0
    replayed_steps: int = 0


class ProgressRecord(Record):
    """progress.json: heartbeat; `sequence` grows by one with each writing."""

    epoch: int
    sequence: int
    phase: str  # starting, training, evaluating, saving, testing, testing_traditional, finished
    step: int
    total_steps: int
    committed_step: int | None = None
    saving_step: int | None = None  # of the checkpoint that is written while training goes on
    save_seconds: float | None = None  # what the last checkpoint took, from its step to durable
    loss: float | None = None
    evaluated: int | None = None  # examples of the present evaluation whose scores are durable
    to_evaluate: int | None = None
    steps_per_second: float | None = None
    resumed_from: str | None = None
    reports: tuple[str, ...] = ()  # e.g. "checkpoint step-…e… quarantined: digest of … differs"
    notice: Notice | None = None
    spent: Spent | None = None
    written_at: float


class Outcome(StrEnum):
    """How a rank ended."""

    COMPLETED = "completed"
    SAVED = "saved"  # a checkpoint was committed; run me again
    NO_PROGRESS = "no_progress"  # stopped before there was anything to save
    CONFIGURATION = "configuration"
    EXCEPTION = "exception"
    DEVICE_OOM = "device_oom"
    FENCED = "fenced"  # a higher epoch holds the job
    PEER_LOST = "peer_lost"  # another rank died or hung


class StopCause(StrEnum):
    """Why a rank was asked to stop."""

    PREEMPTION = "preemption"
    TIME_LIMIT = "time_limit"
    REHEARSAL = "rehearsal"
    CANCEL = "cancel"
    HOLD = "hold"  # save and leave; a person says when to go on


# The type of the error of an attempt that found other circumstances than its checkpoint's.
RESUME_REFUSED = "ResumeRefused"


class ErrorRecord(BaseModel):
    """An exception, with a digest that is equal for equal tracebacks."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    type: str
    message: str
    digest: str
    traceback: str = ""


class ExitRecord(Record):
    """exit.rRRRRR.json: a rank's own account of its end; beats the scheduler's."""

    epoch: int
    rank: int
    outcome: Outcome
    cause: StopCause | None = None
    exit_code: int
    last_step: int
    committed_step: int | None = None
    error: ErrorRecord | None = None
    seconds_from_notice: float | None = None  # from the notice to this record
    written_at: float | None = None
    spent: Spent | None = None


class ControlRecord(Record):
    """control.json: the orchestrator's word to the attempt that holds `epoch`."""

    epoch: int
    request: Literal["stop"]
    cause: StopCause
    deadline_seconds: float | None = None


class ResultRecord(Record):
    """result.json: the validated artefact that alone makes a job COMPLETED."""

    job: str
    spec_digest: str
    epoch: int
    exact: bool
    inexact_reasons: tuple[str, ...] = ()
    waivers: tuple[str, ...] = ()  # names of what was let pass at a resume
    metrics: dict[str, dict[str, float]]
    # Of the weights that the test metrics were computed with; a command has none.
    weights_digest: str | None = None
    final_weights_digest: str | None = None  # of the weights after the last step
    checkpoint_digest: str | None = None
    data_digest: str | None = None
    predictions_digest: str | None = None
    steps: int
    resumed_steps: tuple[int, ...] = ()
    trainable_parameters: int = 0
    picked: dict[str, int] = {}  # tensors that a random method trains, and their elements
    environment: dict[str, Any] = {}


RecordT = TypeVar("RecordT", bound=Record)


def read_record(
    path: Path, kind: type[RecordT], *, limit: int = MAX_RECORD_BYTES
) -> RecordT | None:
    """Return the record at `path`, or None where there is no such file.

    Raises `BadRecord` when it is no regular file, is too large, is not JSON or lacks a field, and
    OSError.
    """
    try:
        data = read_regular(path, limit=limit + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EINVAL, errno.EISDIR):
            raise BadRecord(f"{path}: is not a regular file") from error
        raise
    return decode_record(data, kind, path, limit=limit)


def decode_record(
    data: bytes, kind: type[RecordT], path: Path, *, limit: int = MAX_RECORD_BYTES
) -> RecordT:
    """Return the record that `data`, which is or was at `path`, says. Raises `BadRecord`."""
    if len(data) > limit:
        raise BadRecord(f"{path}: larger than {limit} bytes")
    try:
        return kind.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise BadRecord(f"{path}: {where}: {first['msg']}") from error
