"""What the control plane asks of a scheduler, in values that cannot lie.

Every answer is a sum type: a scheduler that could not be asked is `Unreachable`, never an
empty listing (P6). Implementations: `slurm`, `local` (embedded), `fake` (shipped, scripted).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, runtime_checkable

from jobs.contract.records import TasksRecord
from jobs.spec import ResourcesSpec


class TaskState(StrEnum):
    """A scheduler-neutral state of one task."""

    PENDING = "pending"
    DELAYED = "delayed"  # requeued and waiting for a begin time; `undelay` removes the wait
    HELD = "held"
    RUNNING = "running"
    SUSPENDED = "suspended"
    COMPLETING = "completing"  # processes are being ended; neither running nor over
    COMPLETED = "completed"  # the script left with 0; says nothing of a result
    FAILED = "failed"
    CANCELLED = "cancelled"
    PREEMPTED = "preempted"
    TIMEOUT = "timeout"
    NODE_FAIL = "node_fail"
    OUT_OF_MEMORY = "out_of_memory"
    LAUNCH_FAILED = "launch_failed"


OVER = frozenset(
    {
        TaskState.COMPLETED,
        TaskState.FAILED,
        TaskState.CANCELLED,
        TaskState.PREEMPTED,
        TaskState.TIMEOUT,
        TaskState.NODE_FAIL,
        TaskState.OUT_OF_MEMORY,
        TaskState.LAUNCH_FAILED,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskKey:
    """One task of one submission. The token makes it ours; an id alone never does."""

    token: str
    scheduler_id: str
    index: int  # of the array: an allocation
    cell: int | None = None  # of a packed allocation: which of its tasks, by tasks.json

    @staticmethod
    def of(token: str, scheduler_id: str, place: int, *, pack: int) -> TaskKey:
        """Return the key of a submission's task at a place of tasks.json."""
        return TaskKey(
            token=token,
            scheduler_id=scheduler_id,
            index=place // pack,
            cell=place if pack > 1 else None,
        )

    @property
    def place(self) -> int:
        """The task's index in tasks.json."""
        return self.index if self.cell is None else self.cell

    @property
    def allocation(self) -> TaskKey:
        """The key of all that the array index serves."""
        return TaskKey(token=self.token, scheduler_id=self.scheduler_id, index=self.index)


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierRun:
    """How a task that the scheduler itself restarted had ended before."""

    state: TaskState
    nodes: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """The scheduler knows the task."""

    state: TaskState
    reason: str = ""  # the scheduler's own words, e.g. "Resources", "BeginTime"
    nodes: str = ""
    exit_code: int | None = None  # of the script, where it is over
    restarts: int = 0
    # A cancelled task: by a person (uid of somebody or ours) rather than by the site.
    by_person: bool = False
    # How people name the task to this scheduler ("1234_7", a pid); "" = scheduler id and index.
    task_id: str = ""
    # Of a task that waits again, where accounting says it.
    earlier: EarlierRun | None = None
    # … or where accounting is about to say it: it answers, and knows only of the beginning.
    earlier_awaited: bool = False
    # Of a held task: the scheduler's own doing after failed launches, nobody's wish.
    held_by_scheduler: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Absent:
    """A complete listing did not have it; evidence only after k of them over a grace time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreachable:
    """The scheduler could not be asked, or its answer cannot be trusted. Not evidence."""

    reason: str


Answer = Known | Absent | Unreachable


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One look at the scheduler: an answer for every key asked, at `taken_at` (wall clock)."""

    taken_at: float
    answers: Mapping[TaskKey, Answer]
    unreachable: str | None = None  # set when the look as a whole failed


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitRequest:
    """One submission: tasks of identical resources. The directory and tasks.json exist.

    Where `tasks.pack` is more than 1, so many tasks share an allocation; ranks, threads and
    resources are those of each task.
    """

    token: str
    matrix_name: str
    directory: str  # absolute path of submissions/<token>
    tasks: TasksRecord
    ranks: int
    threads_per_rank: int
    resources: ResourcesSpec  # overrides already applied
    grace_seconds: float
    exclude_nodes: tuple[str, ...] = ()  # nodes on which attempts died; a wish, not a need


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The scheduler has it under this id."""

    scheduler_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The scheduler does not have it. `permanent`: no repetition can help.

    `limit`: it was too much at once; fewer tasks, or the same ones later, may pass.
    """

    reason: str
    permanent: bool
    hint: str = ""
    limit: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Uncertain:
    """The scheduler may or may not have it: search for the token before doing anything."""

    reason: str


SubmitOutcome = Accepted | Refused | Uncertain


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """A check without effect found nothing against a submission."""


CheckOutcome = Passed | Refused | Unreachable


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """All scheduler ids that carry the token, oldest first; empty means: none, surely."""

    scheduler_ids: tuple[str, ...]


class Scheduler(Protocol):
    """One cluster, real, embedded or scripted. No method raises for the cluster's sake."""

    name: str  # local, slurm, fake

    def submit(self, request: SubmitRequest) -> SubmitOutcome:
        """Hand a submission over; repeated calls with one token are the caller's mistake."""
        ...

    def find(self, token: str) -> Found | Unreachable:
        """Search queue and accounting for a submission by its token."""
        ...

    def observe(self, keys: Sequence[TaskKey]) -> Observation:
        """Answer for every key, by a constant number of queries."""
        ...

    def cancel(self, keys: Sequence[TaskKey]) -> Mapping[TaskKey, str | None]:
        """End tasks for good, after checking their token; None, or why it was not done.

        Allocations only: `orchestrator.packs` ends single cells.
        """
        ...

    def notify(self, key: TaskKey) -> str | None:
        """Give a running task the site's preemption notice (CONT, TERM to its ranks)."""
        ...

    def kill(self, key: TaskKey) -> str | None:
        """SIGKILL a running task's ranks, as the site does when grace is over."""
        ...

    def release(self, keys: Sequence[TaskKey]) -> Mapping[TaskKey, str | None]:
        """Let tasks go that are held at the scheduler, after checking their token."""
        ...

    def nodes(self) -> tuple[str, ...] | None:
        """Return the names of the nodes that our tasks may run on; None: nobody says."""
        ...

    def exclude(
        self, keys: Sequence[TaskKey], nodes: Sequence[str]
    ) -> Mapping[TaskKey, str | None]:
        """Keep waiting tasks off these nodes (and only these, besides the site's own list)."""
        ...

    def undelay(self, keys: Sequence[TaskKey]) -> Mapping[TaskKey, str | None]:
        """Remove the begin time that a requeue left behind."""
        ...


@runtime_checkable
class Checks(Protocol):
    """A scheduler that can say beforehand whether it would take a resource group at all."""

    def check_key(self, request: SubmitRequest) -> str:
        """Return what an answer of `check` holds for: equal keys get equal answers."""
        ...

    def check(self, request: SubmitRequest) -> CheckOutcome:
        """Ask, without effect. Only a `Refused` that is permanent is evidence."""
        ...


@runtime_checkable
class SubmitLimits(Protocol):
    """A scheduler that knows how much it takes; a packed allocation counts as one task."""

    @property
    def chunk_limit(self) -> int:
        """Tasks that one submission may have."""
        ...

    @property
    def submit_limit(self) -> int | None:
        """Tasks that may be there at once; None: nobody says."""
        ...
