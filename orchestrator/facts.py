"""What a decision is made from: values only, gathered by `evidence` and the store."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from jobs.contract.records import ErrorRecord, ExitRecord, Overrides, ResultRecord, Spent
from jobs.history import decisive
from jobs.spec import JobSpec
from jobs.states import JobState
from orchestrator.schedulers.base import TaskKey, TaskState

NO_OVERRIDES = Overrides()


class EndClass(StrEnum):
    """What an attempt's end means (DESIGN: the table of that name)."""

    COMPLETED = "completed"
    PREEMPTED = "preempted"
    TIME_LIMIT = "time_limit"
    NODE = "node"
    HOST_OOM = "host_oom"
    DEVICE_OOM = "device_oom"
    EXCEPTION = "exception"
    CONFIGURATION = "configuration"
    RESUME_REFUSED = "resume_refused"  # the checkpoint is of other circumstances
    STALLED = "stalled"
    INCOMPLETE = "incomplete"
    CANCELLED = "cancelled"
    HELD = "held"  # a person asked it to save and wait
    FENCED = "fenced"  # a higher epoch held the job
    LOST = "lost"  # the scheduler no longer knows the task and nobody gave a sign of life
    LAUNCH = "launch"  # it ended before an attempt claimed the job


class Blame(StrEnum):
    """What an end says of the nodes it happened on."""

    NOBODY = "nobody"
    SUSPECT = "suspect"  # counts together with ends of other jobs
    CERTAIN = "certain"  # the site itself says that the node failed


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How much silence of a scheduler is evidence."""

    absent_answers: int = 3  # complete answers without the task
    absent_seconds: float = 60.0
    find_answers: int = 3  # complete searches without the token
    quiet_seconds: float = 60.0  # > the client's time-out plus the controller's save interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Time limits of the reconciler, in seconds."""

    start_silent: float = 1800.0  # running, and no attempt has claimed the job
    heartbeat_fresh: float = 120.0  # a task with such a heartbeat is never called lost
    kill_again: float = 30.0
    cancel_again: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptFacts:
    """What one attempt left behind."""

    epoch: int
    token: str
    last_step: int | None = None
    committed_step: int | None = None
    resumed_from: str | None = None  # a checkpoint's name
    exits: tuple[ExitRecord, ...] = ()
    shown_id: str | None = None  # how people name it to its scheduler
    host: str = ""  # of rank 0
    started_at: float | None = None  # wall clock there
    left_at: float | None = None  # of its last exit record
    spent: Spent | None = None

    @property
    def error(self) -> ErrorRecord | None:
        """The error of the rank whose record decides."""
        exit_record = decisive(self.exits)
        return exit_record.error if exit_record else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Departure:
    """A cell of a packed allocation is over, whatever its neighbours do."""

    epoch: int | None  # the job's newest claim then
    exit_code: int | None  # None: it was never started
    reason: str
    out_of_memory: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What the job directory says now. `attempts` has those not yet recorded as ended."""

    result: ResultRecord | None = None
    result_rejected: str | None = None  # why result.json is not a result
    epoch: int | None = None  # of the newest claim
    sequence: int = -1
    step: int | None = None
    total_steps: int | None = None
    committed_step: int | None = None
    phase: str | None = None
    loss: float | None = None
    reports: tuple[str, ...] = ()
    attempts: tuple[AttemptFacts, ...] = ()
    touched: bool = False  # the heartbeat has been written anew since, and was not read
    problems: tuple[str, ...] = ()  # unreadable records, for the eyes of people
    departure: Departure | None = None  # of a packed allocation
    dropped: bool = False  # we asked that it ends, or never begins, without its neighbours


@dataclass(frozen=True, slots=True, kw_only=True)
class StopFacts:
    """An open request to stop or kill an attempt."""

    id: int
    epoch: int | None
    cause: str  # rehearsal, preemption, cancel, stalled, hold
    grace_seconds: float
    requested_at: float
    notified_at: float | None = None
    killed_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EndFacts:
    """An end that is already recorded."""

    epoch: int | None
    end_class: EndClass
    committed_step: int | None = None
    last_step: int | None = None
    resumed_from: str | None = None
    nodes: str = ""
    blame: Blame = Blame.NOBODY
    at: float = 0.0
    error_digest: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFacts:
    """The job's live task as the store knows it."""

    id: int
    key: TaskKey
    scheduler: str
    seen: TaskState | None = None
    seen_reason: str = ""
    shown_id: str | None = None
    nodes: str = ""
    restarts: int = 0
    absent_count: int = 0
    absent_since: float | None = None
    running_since: float | None = None
    release_wanted: bool = False  # a person asked the scheduler to let it go


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFacts:
    """One job with a live task, as the store knows it."""

    id: str
    name: str
    spec: JobSpec
    state: JobState
    reason: str = ""
    epoch: int | None = None
    sequence: int = -1
    heartbeat_at: float | None = None
    heartbeat_saved_at: float | None = None  # what the store has; it may be a little older
    committed_step: int | None = None
    attempts: int = 0
    overrides: Overrides = NO_OVERRIDES
    ended_epoch: int | None = None
    rehearsed: bool = False
    again_wanted: str | None = None  # release, retry: once the task is gone
    stop: StopFacts | None = None
    task: TaskFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One job at one moment: all that a decision may depend on, besides the answer."""

    job: JobFacts
    evidence: Evidence
    now: float
    resumed: bool  # time stood still, or the clock jumped, before this moment
    heartbeat: float | None  # when, by our clock, the attempt last gave a sign of life
    patience: Patience
    limits: Limits
