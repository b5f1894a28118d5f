"""The shipped fake keeps the contract, and its scripted faults are what they say."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from durable.clock import FakeClock
from orchestrator.schedulers.base import (
    Absent,
    EarlierRun,
    Found,
    Known,
    Refused,
    TaskState,
    Uncertain,
    Unreachable,
)
from orchestrator.schedulers.fake import FakeScheduler
from tests.contract.scheduler_contract import (
    Cluster,
    SchedulerContract,
    look,
    request_for,
    submit,
)
from tests.contract.stub import make_spec


@pytest.fixture
def fake(tmp_path: Path) -> FakeScheduler:
    """A fake cluster that is kept in a file."""
    return FakeScheduler(clock=FakeClock(), path=tmp_path / "fake.json")


@pytest.fixture
def cluster(tmp_path: Path, fake: FakeScheduler) -> Cluster:
    """It moves only when driven."""

    def drive() -> None:
        for key, task in fake.tasks():
            if task.state is TaskState.RUNNING:
                fake.end(key, TaskState.COMPLETED, exit_code=0)
            elif task.state is TaskState.PENDING:
                fake.start(key)

    return Cluster(home=tmp_path / "home", scheduler=fake, drive=drive)


class TestFakeKeepsTheContract(SchedulerContract):
    """The suite."""


def test_a_lost_acknowledgement_leaves_the_task_in_the_cluster(
    cluster: Cluster, fake: FakeScheduler
) -> None:
    """Uncertain, and found by its token; a lost request is Uncertain and not found."""
    fake.next_submit.extend(["lost_ack", "lost_request"])
    first = request_for(cluster, [make_spec(1)])
    second = request_for(cluster, [make_spec(2)])

    assert isinstance(fake.submit(first), Uncertain)
    assert isinstance(fake.submit(second), Uncertain)

    assert fake.find(first.token) == Found(scheduler_ids=("1",))
    assert fake.find(second.token) == Found(scheduler_ids=())


def test_refusals_come_in_two_kinds(cluster: Cluster, fake: FakeScheduler) -> None:
    """A limit may pass; a wrong partition never does."""
    fake.next_submit.extend(["refuse", "refuse_for_ever"])
    request = request_for(cluster, [make_spec(1)])

    outcomes = [fake.submit(request), fake.submit(request)]

    assert [o.permanent for o in outcomes if isinstance(o, Refused)] == [False, True]


def test_a_silent_cluster_answers_for_no_task(cluster: Cluster, fake: FakeScheduler) -> None:
    """Unreachable and garbled listings are Unreachable for every key (P6)."""
    (key,) = submit(cluster, [make_spec(1)])
    fake.unreachable, fake.garbled = 1, 1

    assert isinstance(look(cluster, key), Unreachable)
    assert isinstance(look(cluster, key), Unreachable)
    assert isinstance(look(cluster, key), Known)


def test_preempted_hidden_lost_and_doubled_tasks(cluster: Cluster, fake: FakeScheduler) -> None:
    """Each scripted fault shows as the real thing does."""
    (key,) = submit(cluster, [make_spec(1)])
    fake.start(key)
    fake.preempt(key, requeue=True)
    assert look(cluster, key) == Known(
        state=TaskState.DELAYED,
        reason="BeginTime",
        restarts=1,
        earlier=EarlierRun(state=TaskState.PREEMPTED, nodes="fake1"),
    )
    fake.undelay([key])
    assert look(cluster, key) == Known(state=TaskState.PENDING, reason="Priority", restarts=1)
    fake.hide(key, 1)
    assert look(cluster, key) == Absent()
    fake.preempt(key, requeue=False)
    assert look(cluster, key) == Known(state=TaskState.PREEMPTED, nodes="fake1", restarts=1)
    fake.duplicate(key.token)
    assert fake.find(key.token) == Found(scheduler_ids=("1", "2"))
    fake.lose(key)
    assert look(cluster, key) == Absent()


def test_the_cluster_outlives_the_object(
    cluster: Cluster, fake: FakeScheduler, tmp_path: Path
) -> None:
    """With a path, a new object sees the same cluster."""
    (key,) = submit(cluster, [make_spec(1)])
    fake.start(key)

    again = FakeScheduler(clock=FakeClock(), path=tmp_path / "fake.json")

    assert again.observe([key]).answers[key] == look(cluster, key)
    kept = json.loads((tmp_path / "fake.json").read_text())
    assert Counter(task["state"] for task in kept["tasks"]) == {"running": 1}
