"""A scheduler whose cluster is a dictionary and whose faults are scripted.

For tests, also other people's: deterministic, no processes, no waiting. With `path` its cluster
is kept in a file, as a real one outlives the orchestrator that is killed.

    fake = FakeScheduler()
    fake.next_submit.append("lost_ack")   # accepted, but the answer never arrives
    fake.unreachable = 2                  # the next two questions fail
    fake.start(key); fake.preempt(key, requeue=True); fake.end(key, TaskState.NODE_FAIL)
"""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from durable.clock import Clock, FakeClock
from durable.files import publish_file
from orchestrator.facts import Patience
from orchestrator.schedulers.base import (
    OVER,
    Absent,
    Accepted,
    Answer,
    CheckOutcome,
    EarlierRun,
    Found,
    Known,
    Observation,
    Passed,
    Refused,
    SubmitOutcome,
    SubmitRequest,
    TaskKey,
    TaskState,
    Uncertain,
    Unreachable,
)

# What `next_submit` may hold; anything not scripted is accepted.
SUBMIT_FAULTS = frozenset({"accept", "lost_ack", "lost_request", "refuse", "refuse_for_ever"})


@dataclass(slots=True, kw_only=True)
class FakeTask:
    """One task in the fake cluster."""

    token: str
    scheduler_id: str
    index: int
    job: str
    state: TaskState = TaskState.PENDING
    reason: str = "Priority"
    exit_code: int | None = None
    restarts: int = 0
    by_person: bool = False
    hidden: int = 0  # so many listings leave it out
    node: str = ""
    earlier: str | None = None  # how the run before had ended
    excluded: tuple[str, ...] = ()
    held_by_scheduler: bool = False


class FakeScheduler:
    """Scheduler `fake`. Public attributes are the script; `log` is what was asked of it."""

    name = "fake"
    chunk_limit = 500
    submit_limit: int | None = None  # what it says of itself

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        path: Path | None = None,
        patience: Patience | None = None,
    ) -> None:
        self.patience = patience or Patience()
        self.next_submit: deque[str] = deque()
        self.max_submit: int | None = None  # what it really takes, tasks that are not over
        self.check_answer: CheckOutcome = Passed()
        self.unreachable = 0  # so many questions (find, observe, cancel …) fail
        self.garbled = 0  # so many listings are nonsense
        self.log: list[tuple[str, object]] = []
        self.node_names: tuple[str, ...] | None = None
        self.accepted: Counter[str] = Counter()  # tasks that each job ever had
        self.on_notify: Callable[[TaskKey], None] | None = None
        self._clock = clock or FakeClock()
        self._path = path
        self._next_id = 1
        self._tasks: list[FakeTask] = []
        if path is not None and path.exists():
            kept = json.loads(path.read_text(encoding="utf-8"))
            self._next_id = kept["next_id"]
            self._tasks = [
                FakeTask(**{**task, "state": TaskState(task["state"])}) for task in kept["tasks"]
            ]

    # --- the Scheduler protocol

    def submit(self, request: SubmitRequest) -> SubmitOutcome:
        """Answer as scripted."""
        self.log.append(("submit", request.token))
        fault = self.next_submit.popleft() if self.next_submit else "accept"
        if fault not in SUBMIT_FAULTS:
            raise ValueError(f"next_submit: {fault!r} is none of {sorted(SUBMIT_FAULTS)}")
        live = sum(task.state not in OVER for task in self._tasks)
        if (
            self.max_submit is not None
            and live + len(request.tasks.allocations()) > self.max_submit
        ):
            return Refused(reason="QOSMaxSubmitJobPerUserLimit", permanent=False, limit=True)
        match fault:
            case "refuse":
                return Refused(reason="Requested nodes are busy", permanent=False)
            case "refuse_for_ever":
                return Refused(
                    reason="invalid partition", permanent=True, hint="fix `partition` in site.yaml"
                )
            case "lost_request":
                return Uncertain(reason="Socket timed out on send/recv operation")
        scheduler_id = self._accept(request)
        if fault == "lost_ack":
            return Uncertain(reason="Socket timed out on send/recv operation")
        return Accepted(scheduler_id=scheduler_id)

    def check_key(self, request: SubmitRequest) -> str:
        """Return the resources in words."""
        return f"{request.ranks} {request.resources}"

    def check(self, request: SubmitRequest) -> CheckOutcome:
        """Answer as scripted."""
        self.log.append(("check", self.check_key(request)))
        return self.check_answer

    def find(self, token: str) -> Found | Unreachable:
        """Search all tasks by token."""
        self.log.append(("find", token))
        if self._fails():
            return Unreachable(reason="Unable to contact slurm controller")
        ids = dict.fromkeys(t.scheduler_id for t in self._tasks if t.token == token)
        return Found(scheduler_ids=tuple(ids))

    def observe(self, keys: Sequence[TaskKey]) -> Observation:
        """List all tasks, minus those that are hidden."""
        self.log.append(("observe", len(keys)))
        now = self._clock.wall()
        why = None
        if self._fails():
            why = "Unable to contact slurm controller"
        elif self.garbled > 0:
            self.garbled -= 1
            why = "squeue printed a row that is none: '�|RUNNING'"
        if why is not None:
            silent: dict[TaskKey, Answer] = {key: Unreachable(reason=why) for key in keys}
            return Observation(taken_at=now, answers=silent, unreachable=why)
        answers = {key: self._answer(key) for key in keys}
        self._save()
        return Observation(taken_at=now, answers=answers)

    def cancel(self, keys: Sequence[TaskKey]) -> Mapping[TaskKey, str | None]:
        """End tasks whose token matches."""
        self.log.append(("cancel", tuple(keys)))
        if self._fails():
            return dict.fromkeys(keys, "Unable to contact slurm controller")
        for key in keys:
            task = self._find(key)
            if task is not None and task.state not in OVER:
                task.state, task.by_person, task.reason = TaskState.CANCELLED, True, ""
        self._save()
        return dict.fromkeys(keys)

    def notify(self, key: TaskKey) -> str | None:
        """Tell `on_notify`."""
        return self._signal("notify", key)

    def kill(self, key: TaskKey) -> str | None:
        """End a running task as a failed node does."""
        problem = self._signal("kill", key)
        if problem is None:
            self.end(key, TaskState.FAILED, exit_code=137)
        return problem

    def release(self, keys: Sequence[TaskKey]) -> Mapping[TaskKey, str | None]:
        """Let held tasks wait for nodes again; not those that an administrator holds."""
        self.log.append(("release", tuple(keys)))
        if self._fails():
            return dict.fromkeys(keys, "Unable to contact slurm controller")
        problems: dict[TaskKey, str | None] = dict.fromkeys(keys)
        for key in keys:
            task = self._find(key)
            if task is not None and task.state is TaskState.HELD:
                if task.reason == "JobHeldAdmin":
                    problems[key] = "Access/permission denied"
                else:
                    task.state, task.reason = TaskState.PENDING, "Priority"
                    task.held_by_scheduler = False
        self._save()
        return problems

    def undelay(self, keys: Sequence[TaskKey]) -> Mapping[TaskKey, str | None]:
        """Remove the begin time."""
        self.log.append(("undelay", tuple(keys)))
        if self._fails():
            return dict.fromkeys(keys, "Unable to contact slurm controller")
        for key in keys:
            task = self._find(key)
            if task is not None and task.state is TaskState.DELAYED:
                task.state, task.reason = TaskState.PENDING, "Priority"
        self._save()
        return dict.fromkeys(keys)

    def nodes(self) -> tuple[str, ...] | None:
        """Return `node_names`."""
        return self.node_names

    def exclude(
        self, keys: Sequence[TaskKey], nodes: Sequence[str]
    ) -> Mapping[TaskKey, str | None]:
        """Keep waiting tasks off these nodes."""
        self.log.append(("exclude", (tuple(keys), tuple(nodes))))
        if self._fails():
            return dict.fromkeys(keys, "Unable to contact slurm controller")
        for key in keys:
            task = self._find(key)
            if task is not None and task.state not in OVER:
                task.excluded = tuple(nodes)
        self._save()
        return dict.fromkeys(keys)

    # --- the script

    def tasks(self) -> list[tuple[TaskKey, FakeTask]]:
        """Return all tasks that the cluster has, oldest first."""
        return [
            (TaskKey(token=t.token, scheduler_id=t.scheduler_id, index=t.index), t)
            for t in self._tasks
        ]

    def start(self, key: TaskKey, node: str = "fake1") -> None:
        """Let a waiting task run."""
        self._set(key, TaskState.RUNNING).node = node
        self._save()

    def hold(
        self, key: TaskKey, reason: str = "JobHeldUser", *, by_scheduler: bool = False
    ) -> None:
        """Hold a task, as a person, an administrator or the scheduler itself does."""
        task = self._set(key, TaskState.HELD, reason=reason)
        task.held_by_scheduler = by_scheduler
        self._save()

    def end(
        self,
        key: TaskKey,
        state: TaskState,
        *,
        exit_code: int | None = None,
        by_person: bool = False,
    ) -> None:
        """Let a task be over."""
        task = self._set(key, state)
        task.exit_code, task.by_person = exit_code, by_person
        self._save()

    def preempt(self, key: TaskKey, *, requeue: bool) -> None:
        """Preempt a task, as PreemptMode REQUEUE or CANCEL does."""
        if requeue:
            self.requeue(key, TaskState.PREEMPTED)
        else:
            self._set(key, TaskState.PREEMPTED)

    def requeue(self, key: TaskKey, earlier: TaskState) -> None:
        """Put a task back into the queue, as Slurm does by itself after such an end."""
        task = self._set(key, TaskState.DELAYED, reason="BeginTime")
        task.restarts += 1
        task.earlier = earlier
        self._save()

    def lose(self, key: TaskKey) -> None:
        """Forget a task, as a controller that was killed does."""
        self._tasks = [t for t in self._tasks if t is not self._find(key)]
        self._save()

    def duplicate(self, token: str) -> str:
        """Let a second copy of a submission exist; return its id."""
        copies = [t for t in self._tasks if t.token == token]
        scheduler_id = self._new_id()
        first = copies[0].scheduler_id
        for task in copies:
            if task.scheduler_id == first:
                values = {**asdict(task), "scheduler_id": scheduler_id}
                self._tasks.append(FakeTask(**values))
        self._save()
        return scheduler_id

    def add_stranger(self, task: FakeTask) -> None:
        """Give a number to somebody else, as a controller does that has forgotten ours."""
        self._tasks.append(task)
        self._save()

    def hide(self, key: TaskKey, listings: int) -> None:
        """Leave a task out of the next listings."""
        task = self._find(key)
        if task is not None:
            task.hidden = listings
        self._save()

    # --- inside

    def _accept(self, request: SubmitRequest) -> str:
        scheduler_id = self._new_id()
        for index in request.tasks.allocations():
            cells = request.tasks.cells_of(index)
            self.accepted.update(task.job for task in cells)
            self._tasks.append(
                FakeTask(
                    token=request.token,
                    scheduler_id=scheduler_id,
                    index=index,
                    job=cells[0].job,
                    excluded=request.exclude_nodes,
                )
            )
        self._save()
        return scheduler_id

    def _new_id(self) -> str:
        scheduler_id = str(self._next_id)
        self._next_id += 1
        return scheduler_id

    def _fails(self) -> bool:
        if self.unreachable > 0:
            self.unreachable -= 1
            return True
        return False

    def _find(self, key: TaskKey) -> FakeTask | None:
        wanted = (key.token, key.scheduler_id, key.index)
        return next((t for t in self._tasks if (t.token, t.scheduler_id, t.index) == wanted), None)

    def _set(self, key: TaskKey, state: TaskState, *, reason: str = "") -> FakeTask:
        task = self._find(key)
        if task is None:
            raise KeyError(f"the fake cluster has no {key}")
        task.state, task.reason = state, reason
        self._save()
        return task

    def _answer(self, key: TaskKey) -> Answer:
        task = self._find(key)
        if task is None:
            return Absent()
        if task.hidden > 0:
            task.hidden -= 1
            return Absent()
        return Known(
            state=task.state,
            reason=task.reason,
            nodes=task.node if task.state is TaskState.RUNNING or task.state in OVER else "",
            earlier=(
                EarlierRun(state=TaskState(task.earlier), nodes=task.node)
                if task.earlier and task.state in (TaskState.DELAYED, TaskState.HELD)
                else None
            ),
            held_by_scheduler=task.held_by_scheduler,
            exit_code=task.exit_code,
            restarts=task.restarts,
            by_person=task.by_person,
        )

    def _signal(self, verb: str, key: TaskKey) -> str | None:
        self.log.append((verb, key))
        if self._fails():
            return "Unable to contact slurm controller"
        task = self._find(key)
        if task is None or task.state is not TaskState.RUNNING:
            return "it is not running"
        if verb == "notify" and self.on_notify is not None:
            self.on_notify(key)
        return None

    def _save(self) -> None:
        if self._path is not None:
            kept: dict[str, Any] = {
                "next_id": self._next_id,
                "tasks": [asdict(task) for task in self._tasks],
            }
            publish_file(self._path, json.dumps(kept).encode(), durable=False)
