"""What the reconciler decides, as data. Each action has the cause that led to it."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.contract.records import ResultRecord
from jobs.states import JobState
from orchestrator.classification import Meaning
from orchestrator.facts import AttemptFacts, Blame, EndClass
from orchestrator.schedulers.base import TaskKey, TaskState


@dataclass(frozen=True, slots=True, kw_only=True)
class SeeTask:
    """Remember the scheduler's word."""

    task: int
    seen: TaskState | None
    seen_reason: str
    shown_id: str | None
    nodes: str
    restarts: int
    absent_count: int
    absent_since: float | None
    running_since: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SeeProgress:
    """Remember what the newest attempt says of itself."""

    heartbeat_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """Change the job's state, or only its reason."""

    state: JobState
    reason: str
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordEnd:
    """An attempt (or a task that never became one) is over and means this."""

    end_class: EndClass
    cause: str
    attempt: AttemptFacts | None
    blame: Blame = Blame.NOBODY
    nodes: str = ""  # where it ran, in the scheduler's words


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseTask:
    """The scheduler will do nothing more for this task."""

    task: int
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Complete:
    """A valid result exists."""

    result: ResultRecord
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DecideNext:
    """The task is over without a result: ask the policy what follows."""

    meaning: Meaning


@dataclass(frozen=True, slots=True, kw_only=True)
class StartAgain:
    """A person asked for it while the task still lived: the job is due again."""

    anew: bool  # with whole budgets
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseTask:
    """Ask the scheduler to let go of a task that it, or a person there, holds."""

    task: int
    key: TaskKey


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectResult:
    """Put a result.json that is not a result aside, so that a real one can be published."""

    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Undelay:
    """Remove the begin time that a requeue left behind."""

    key: TaskKey


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeHold:
    """The scheduler holds a task by itself: ask the policy whether it is worth a release."""

    meaning: Meaning
    key: TaskKey


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestStop:
    """Begin a rehearsal, or the end of a stalled attempt."""

    stop_cause: str
    epoch: int | None
    grace_seconds: float
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Notify:
    """Write control.json and give the notice."""

    stop: int
    stop_cause: str
    epoch: int
    grace_seconds: float
    key: TaskKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """SIGKILL the ranks: the grace is over."""

    stop: int
    stop_cause: str
    key: TaskKey


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelTask:
    """End the task for good at the scheduler; `stop` is the request that asked for it."""

    key: TaskKey
    stop: int | None
    epoch: int | None
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishStop:
    """The attempt that was asked to stop is no more."""

    stop: int


Action = (
    SeeTask
    | SeeProgress
    | Move
    | RecordEnd
    | CloseTask
    | Complete
    | DecideNext
    | StartAgain
    | ReleaseTask
    | RejectResult
    | Undelay
    | JudgeHold
    | RequestStop
    | Notify
    | Kill
    | CancelTask
    | FinishStop
)
