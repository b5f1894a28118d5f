"""What every scheduler must do, whatever is behind it. One class, run against each backend.

A backend's test module subclasses `SchedulerContract` and gives a fixture `cluster` that returns
a `Cluster`. Its tasks are jobs of the stub worker, which run for a second or more unless stopped.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from durable.files import private_dir, write_durable
from jobs.contract.paths import StateDir
from jobs.contract.records import TaskRecord, TasksRecord
from jobs.spec import JobSpec, ResourcesSpec
from orchestrator.schedulers.base import (
    OVER,
    Absent,
    Accepted,
    Answer,
    Found,
    Known,
    Scheduler,
    SubmitRequest,
    TaskKey,
    TaskState,
)
from tests.contract.stub import make_spec

WAITING = (TaskState.PENDING, TaskState.DELAYED)


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """A scheduler under test and what the suite must know of it."""

    home: Path
    scheduler: Scheduler
    slots: int = 2  # tasks that run at once; the suite never needs more
    seconds: float = 20.0  # how long a change may take to show
    # Makes the next waiting task run, where that does not happen by itself.
    drive: Callable[[], None] = lambda: None


def request_for(cluster: Cluster, specs: Sequence[JobSpec]) -> SubmitRequest:
    """Write a submission's directory and return its request."""
    token = secrets.token_hex(8)
    state = StateDir(cluster.home)
    directory = state.submission(token)
    tasks = TasksRecord(
        token=token,
        scheduler=cluster.scheduler.name,
        tasks=tuple(TaskRecord(index=i, job=spec.id) for i, spec in enumerate(specs)),
    )
    for spec in specs:
        private_dir(state.job(spec.id).path)
        state.job(spec.id).spec.write_bytes(spec.to_json())
    private_dir(directory.path)
    write_durable(directory.tasks, tasks.to_json())
    return SubmitRequest(
        token=token,
        matrix_name="contract",
        directory=str(directory.path),
        tasks=tasks,
        ranks=1,
        threads_per_rank=1,
        resources=ResourcesSpec(memory_gb=0.1, time_limit_minutes=5),
        grace_seconds=5.0,
    )


def submit(cluster: Cluster, specs: Sequence[JobSpec]) -> list[TaskKey]:
    """Submit one task per spec; return their keys."""
    request = request_for(cluster, specs)
    outcome = cluster.scheduler.submit(request)
    assert isinstance(outcome, Accepted), outcome
    return [
        TaskKey(token=request.token, scheduler_id=outcome.scheduler_id, index=index)
        for index in range(len(specs))
    ]


def look(cluster: Cluster, key: TaskKey) -> Answer:
    """Ask for one task."""
    return cluster.scheduler.observe([key]).answers[key]


def wait_for(cluster: Cluster, key: TaskKey, states: Sequence[TaskState]) -> Known:
    """Look until the task is in one of the states."""
    deadline = time.monotonic() + cluster.seconds
    answer = look(cluster, key)
    while not (isinstance(answer, Known) and answer.state in states):
        assert time.monotonic() < deadline, f"{answer} did not become one of {states}"
        cluster.drive()
        time.sleep(0.02)
        answer = look(cluster, key)
    return answer


class SchedulerContract:
    """Tests that each backend inherits."""

    def test_an_accepted_submission_is_known_at_once_and_found_by_its_token(
        self, cluster: Cluster
    ) -> None:
        """An accepted task is never Absent (P6), and its token can be searched for."""
        keys = submit(cluster, [make_spec(1), make_spec(2)])

        answers = cluster.scheduler.observe(keys).answers

        assert set(answers) == set(keys)
        assert all(isinstance(answer, Known) for answer in answers.values())
        assert cluster.scheduler.find(keys[0].token) == Found(scheduler_ids=(keys[0].scheduler_id,))

    def test_a_token_that_was_never_submitted_is_surely_not_there(self, cluster: Cluster) -> None:
        """An empty Found is evidence: the job may be handed over again."""
        submit(cluster, [make_spec(1)])

        assert cluster.scheduler.find(secrets.token_hex(8)) == Found(scheduler_ids=())

    def test_a_task_with_a_foreign_token_is_absent(self, cluster: Cluster) -> None:
        """An id alone never identifies our job."""
        (key,) = submit(cluster, [make_spec(1)])

        stranger = replace(key, token=secrets.token_hex(8))

        assert look(cluster, stranger) == Absent()

    def test_observing_nothing_is_no_failure(self, cluster: Cluster) -> None:
        """An empty question has a complete answer."""
        observation = cluster.scheduler.observe([])

        assert observation.unreachable is None
        assert observation.answers == {}

    def test_a_task_runs_and_ends(self, cluster: Cluster) -> None:
        """RUNNING is seen, then an end that stays what it is."""
        (key,) = submit(cluster, [make_spec(1)])

        wait_for(cluster, key, [TaskState.RUNNING])
        end = wait_for(cluster, key, list(OVER))

        assert end.state is TaskState.COMPLETED
        assert end.exit_code in (0, None)
        assert look(cluster, key) == end

    def test_a_cancelled_waiting_task_never_runs(self, cluster: Cluster) -> None:
        """It is CANCELLED by a person, and its siblings stay."""
        keys = submit(cluster, [make_spec(seed) for seed in range(1, cluster.slots + 2)])
        last = keys[-1]

        assert cluster.scheduler.cancel([last]) == {last: None}

        end = wait_for(cluster, last, list(OVER))
        assert end.state is TaskState.CANCELLED
        assert end.by_person
        others = cluster.scheduler.observe(keys[:-1]).answers.values()
        assert all(isinstance(a, Known) and a.state not in OVER for a in others)
        cluster.scheduler.cancel(keys)

    def test_a_cancelled_running_task_is_over_by_a_person(self, cluster: Cluster) -> None:
        """Cancel reaches a running task, whatever its own exit code."""
        (key,) = submit(cluster, [make_spec(1)])
        wait_for(cluster, key, [TaskState.RUNNING])

        assert cluster.scheduler.cancel([key])[key] is None

        end = wait_for(cluster, key, list(OVER))
        assert (end.state, end.by_person) == (TaskState.CANCELLED, True)

    def test_cancelling_a_foreign_token_touches_nothing(self, cluster: Cluster) -> None:
        """Never cancel an id whose token does not match."""
        (key,) = submit(cluster, [make_spec(1)])
        wait_for(cluster, key, [TaskState.RUNNING])

        cluster.scheduler.cancel([replace(key, token=secrets.token_hex(8))])

        answer = look(cluster, key)
        assert isinstance(answer, Known)
        assert answer.state is TaskState.RUNNING
        cluster.scheduler.cancel([key])

    def test_a_killed_task_does_not_run_on(self, cluster: Cluster) -> None:
        """After `kill` the task is over, or requeued, and says nothing of success."""
        (key,) = submit(cluster, [make_spec(1)])
        wait_for(cluster, key, [TaskState.RUNNING])
        self.until_signalled(cluster, cluster.scheduler.kill, key)

        end = wait_for(cluster, key, [*OVER, *WAITING])

        assert end.state is not TaskState.COMPLETED
        cluster.scheduler.cancel([key])

    def test_signals_to_a_task_that_does_not_run_say_so(self, cluster: Cluster) -> None:
        """`notify` and `kill` report a task that is not running instead of hitting another."""
        keys = submit(cluster, [make_spec(seed) for seed in range(1, cluster.slots + 2)])

        assert cluster.scheduler.notify(keys[-1]) is not None
        assert cluster.scheduler.kill(keys[-1]) is not None
        cluster.scheduler.cancel(keys)

    def test_release_of_a_task_that_is_not_held_is_harmless(self, cluster: Cluster) -> None:
        """Said of a waiting task and of a stranger's; neither is touched."""
        (key,) = submit(cluster, [make_spec(1)])
        foreign = replace(key, token=secrets.token_hex(8))

        assert cluster.scheduler.release([key, foreign]) == {key: None, foreign: None}
        cluster.scheduler.cancel([key])

    def test_undelay_of_a_task_that_is_not_delayed_is_harmless(self, cluster: Cluster) -> None:
        """It may be repeated at any time."""
        (key,) = submit(cluster, [make_spec(1)])

        assert set(cluster.scheduler.undelay([key])) == {key}
        assert isinstance(look(cluster, key), Known)
        cluster.scheduler.cancel([key])

    @staticmethod
    def until_signalled(
        cluster: Cluster, verb: Callable[[TaskKey], str | None], key: TaskKey
    ) -> None:
        """Repeat a signal until the task has begun enough to receive it."""
        deadline = time.monotonic() + cluster.seconds
        while (problem := verb(key)) is not None:
            assert time.monotonic() < deadline, problem
            time.sleep(0.02)
