"""What the service tells its callers: frozen rows, ready for a table or for JSON.

The field names of `JobRow` and `ResultRow` are the documented JSON of `orch status` and
`orch results`; fields may be added, never renamed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from jobs.states import JobState

if TYPE_CHECKING:
    # Listings need no specs, and pydantic's models cost a third of `orch status`.
    from jobs.spec import JobSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class WatcherJobSeen:
    """The job of `orch watch --as-job` when a scheduler was last asked; `seen_at`: wall clock."""

    token: str
    task: str  # as the scheduler names it, e.g. `17_0`
    state: str
    reason: str  # the scheduler's
    live: bool  # it waits or runs
    seen_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Watcher:
    """Who keeps the matrix moving; `last_tick` is wall clock seconds."""

    alive: bool
    host: str | None = None
    pid: int | None = None
    last_tick: float | None = None
    job: WatcherJobSeen | None = None  # of `orch watch --as-job`, as it was last seen


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRow:
    """One job as `orch status` shows it."""

    id: str
    name: str
    matrices: tuple[str, ...]
    state: JobState
    step: int | None
    total_steps: int
    epoch: int | None  # of the newest attempt; None before the first
    attempts: int
    preemptions: int
    scheduler: str | None
    scheduler_id: str | None  # e.g. "1234_7", or the local launcher's pid
    reason: str  # why it waits, was restarted or stopped, in plain words
    phase: str | None = None
    loss: float | None = None
    committed_step: int | None = None
    lost_steps: int = 0  # steps that had to be run again
    reports: tuple[str, ...] = ()  # e.g. quarantined checkpoints
    heartbeat_age_seconds: float | None = None
    state_since: float | None = None  # wall clock seconds
    stuck: bool = False  # waits for a job that nobody moves: a person must act on that one


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """All jobs, counted: by the value of their state, and what preemption has cost them."""

    counts: Mapping[str, int]
    preemptions: int = 0
    lost_steps: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ExclusionRow:
    """One node that new and waiting tasks keep off; times are wall clock seconds."""

    node: str
    why: str
    since: float
    until: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultRow:
    """One job as `orch results` shows it; metrics are empty until it is COMPLETED."""

    id: str
    name: str
    matrices: tuple[str, ...]
    state: JobState
    attempts: int
    preemptions: int
    exact: bool | None
    weights_digest: str | None
    metrics: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    steps: int | None = None
    trainable_parameters: int | None = None
    axes: Mapping[str, object] = field(
        default_factory=dict
    )  # dotted key -> value, where jobs differ
    settings: Mapping[str, object] = field(default_factory=dict)  # the same, every key of the spec


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRow:
    """One line of the journal: what was decided, and why."""

    id: int
    at: float  # wall clock seconds
    job: str | None
    token: str | None  # of a submission
    kind: str  # new, intent, submission, state, end, stop
    cause: str
    decision: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovedJob:
    """A job of an earlier record of a matrix that its file no longer names."""

    id: str
    name: str
    state: JobState
    matrix: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What jobs may cost, in hours of CPUs and of GPUs.

    The limits count one whole attempt per job; the measured figures its steps, at the median
    pace of `measured_jobs` finished jobs of the same matrices (None: no job has finished).
    """

    cpu_hours_limit: float
    gpu_hours_limit: float
    cpu_hours_measured: float | None = None
    gpu_hours_measured: float | None = None
    measured_jobs: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a submission would do (or did)."""

    cells: int
    unique_jobs: int
    new: int
    unchanged: int
    jobs: tuple[JobSpec, ...]
    new_ids: frozenset[str] = frozenset()
    again: int = 0  # of the unchanged: cancelled or held, and started again
    removed: tuple[RemovedJob, ...] = ()  # without those that are over or wanted elsewhere
    kept: int = 0  # jobs that the files no longer name, which are over already
    estimate: Estimate | None = None  # of the new jobs

    @property
    def changes_nothing(self) -> bool:
        """Whether the same was submitted before and nothing is to be done for it."""
        return not (self.new or self.again or self.removed)


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitReport:
    """What a submission did: the plan, and what the scheduler said."""

    plan: Plan
    submitted: int  # jobs accepted by the scheduler now
    waiting: int  # jobs kept back for now (slots, limits, an uncertain answer)
    refused: tuple[str, ...] = ()  # the scheduler's words, one a group
    unreachable: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TickReport:
    """What one tick did."""

    happenings: tuple[str, ...]  # one line each, for people
    open_jobs: int  # jobs that are neither terminal nor held
    unreachable: str | None = None
    warnings: tuple[str, ...] = ()
