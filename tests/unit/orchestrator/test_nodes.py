"""Bad nodes are kept off, for a while, and never too many of them."""

from __future__ import annotations

import pytest

from jobs.contract.records import Outcome
from jobs.spec import JobSpec
from jobs.states import JobState
from orchestrator.schedulers.base import OVER, TaskKey, TaskState
from orchestrator.service import Service
from tests.contract.stub import make_spec
from tests.unit.orchestrator.world import SPECS, World

NODES = tuple(f"n{i}" for i in range(1, 13))  # room for 3


def waiting(world: World) -> list[TaskKey]:
    """Return the tasks that wait, in the order of their arrival."""
    return [key for key, task in world.fake.tasks() if task.state is TaskState.PENDING]


class Cluster:
    """Two nodes with two places each; `bad` ends every task at once."""

    def __init__(self, world: World, bad: str, specs: list[JobSpec]) -> None:
        self.world, self.bad = world, bad
        self.specs = {spec.id: spec for spec in specs}
        self.epochs = dict.fromkeys(self.specs, 0)
        self.victims: list[str] = []

    def turn(self) -> None:
        """Give each free place to the first task that may use it; the bad node is quicker."""
        busy = [task.node for _, task in self.world.fake.tasks() if task.state not in OVER]
        for node in [self.bad] * 2 + ["good"] * 2:
            if busy.count(node) >= 2:
                continue
            task = next((k for k in waiting(self.world) if self._may(k, node)), None)
            if task is not None:
                self._run(task, node)

    def _may(self, key: TaskKey, node: str) -> bool:
        task = self.world.fake._find(key)
        return task is not None and node not in task.excluded

    def _run(self, key: TaskKey, node: str) -> None:
        task = self.world.fake._find(key)
        assert task is not None
        self.world.fake.start(key, node)
        if node == self.bad:
            self.victims.append(task.job)
            self.world.fake.end(key, TaskState.FAILED, exit_code=1)
            return
        spec = self.specs[task.job]
        self.epochs[task.job] += 1
        self.world.begin(key, spec, epoch=self.epochs[task.job], node=node)
        self.world.finish(spec)
        self.world.fake.end(key, TaskState.COMPLETED, exit_code=0)


def test_a_black_hole_does_not_eat_the_queue(world: World) -> None:
    """One node fails every job in two seconds and is always free: all jobs get their result."""
    specs = [make_spec(seed, steps=10) for seed in range(1, 41)]
    world.fake.node_names = ("bad", "good")
    cluster = Cluster(world, "bad", specs)
    world.submit(specs)

    for _ in range(80):
        cluster.turn()
        world.tick(seconds=10)
        if all(row.state is JobState.COMPLETED for row in world.service.rows(None)):
            break

    states = [row.state for row in world.service.rows(None)]
    assert states == [JobState.COMPLETED] * 40
    # A few in the first turn, and one look each time that it is tried again.
    assert len(cluster.victims) <= 10
    events = [e for e in world.service.events(None) if e.kind == "node"]
    assert "bad is kept off" in events[0].decision
    assert "before it had begun" in events[0].cause


def test_waiting_tasks_are_told_once_and_told_when_it_is_over(world: World) -> None:
    """Only when the set changed; another tick, or another process, does not repeat it."""
    world.fake.node_names = NODES
    specs = SPECS
    world.submit(specs)
    first, *others = world.task_keys()
    world.tick()
    world.begin(first, specs[0], node="n1")
    world.tick()
    world.fake.end(first, TaskState.NODE_FAIL)
    for _ in range(3):
        world.tick()
    world.service.close()
    world.service = Service.open(world.home, scheduler=world.fake, clock=world.clock)
    world.tick()

    told = [what for verb, what in world.fake.log if verb == "exclude"]
    assert told == [(tuple(others), ("n1",))]
    again = world.task_keys()[-1]
    assert world.fake._find(again).excluded == ("n1",)  # type: ignore[union-attr]
    world.tick(seconds=4000)
    assert [what for verb, what in world.fake.log if verb == "exclude"][1:] == [
        ((*others, again), ())
    ]


def test_a_preemption_storm_strikes_no_node_and_pauses_nothing(world: World) -> None:
    """50 jobs preempted in ten seconds: all are back in the queue at once, free of charge."""
    world.fake.node_names = ("n1", "n2")
    specs = [make_spec(seed, steps=10) for seed in range(1, 51)]
    world.submit(specs)
    world.tick()
    for key, spec in zip(world.task_keys(), specs, strict=True):
        world.begin(key, spec, node="n1")
    world.tick()
    for number, (key, _) in enumerate(world.fake.tasks()[:50]):
        world.fake.preempt(key, requeue=number % 2 == 0)

    world.tick(seconds=10)

    rows = world.service.rows(None)
    assert {row.state for row in rows} == {JobState.QUEUED}
    assert {row.preemptions for row in rows} == {1}
    assert world.service.store.database.rows("exclusions") == []
    assert [e for e in world.service.events(None) if e.kind == "node"] == []


def test_a_node_that_failed_under_a_task_that_slurm_put_back_is_struck(world: World) -> None:
    """The requeue hides the end; accounting tells it."""
    world.fake.node_names = NODES
    world.submit(SPECS[:1])
    (key,) = world.task_keys()
    world.begin(key, SPECS[0], node="n7")
    world.tick()
    world.fake.requeue(key, TaskState.NODE_FAIL)

    world.tick()

    (row,) = world.service.store.database.rows("ends_of", {"job": SPECS[0].id})
    assert (row["class"], row["blame"], row["nodes"]) == ("node", "certain", "n7")
    assert world.fake._find(key).excluded == ("n7",)  # type: ignore[union-attr]


def test_a_task_that_was_put_back_keeps_off_the_node_before_it_may_begin(world: World) -> None:
    """The other way round it had begun on the very node before it was told to keep off it."""
    world.fake.node_names = NODES
    world.submit(SPECS[:1])
    (key,) = world.task_keys()
    world.begin(key, SPECS[0], node="n7")
    world.tick()
    world.fake.requeue(key, TaskState.NODE_FAIL)

    world.tick()

    verbs = [verb for verb, _ in world.fake.log if verb in ("exclude", "undelay")]
    assert verbs == ["exclude", "undelay"]


def test_what_slurm_holds_after_failed_launches_is_released_within_the_budget(
    world: World,
) -> None:
    """Each hold costs one; then the job stops and its task is cancelled."""
    spec = make_spec(1, steps=10, retry={"node_failures": 2})
    world.submit([spec])
    (key,) = world.task_keys()
    for _ in range(2):
        world.fake.hold(key, "launch failed requeued held", by_scheduler=True)
        world.tick()
        assert world.fake._find(key).state is TaskState.PENDING  # type: ignore[union-attr]
        world.tick()

    world.fake.hold(key, "launch failed requeued held", by_scheduler=True)
    world.tick()
    world.tick()

    (row,) = world.service.rows(None)
    assert row.state is JobState.FAILED
    assert "retry.node_failures allows 2 more" in row.reason
    assert world.fake._find(key).state is TaskState.CANCELLED  # type: ignore[union-attr]


@pytest.mark.parametrize("reason", ["JobHeldUser", "JobHeldAdmin", "job requeued in held state"])
def test_what_somebody_holds_stays_held(world: World, reason: str) -> None:
    """It is shown with the reason, and neither released nor handed over again."""
    world.submit(SPECS[:1])
    (key,) = world.task_keys()
    world.fake.hold(key, reason)

    for _ in range(5):
        world.tick()

    (row,) = world.service.rows(None)
    assert row.state is JobState.QUEUED
    assert reason in row.reason
    assert not [verb for verb, _ in world.fake.log if verb == "release"]
    assert len(world.task_keys()) == 1


def test_the_users_own_exceptions_strike_no_node(world: World) -> None:
    """Sixty equal mistakes on one node are not the node's."""
    world.fake.node_names = NODES
    world.submit(SPECS)
    for key, spec in zip(world.task_keys(), SPECS, strict=True):
        world.begin(key, spec, node="n1")
        world.fail(spec, Outcome.EXCEPTION)
        world.fake.end(key, TaskState.FAILED, exit_code=1)
    world.tick()

    assert world.service.store.database.rows("exclusions") == []


def test_a_refused_exclusion_is_said_and_not_repeated(world: World) -> None:
    """The scheduler's words, once for each set."""
    world.fake.node_names = NODES
    world.submit(SPECS[:2])
    first, _ = world.task_keys()
    world.begin(first, SPECS[0], node="n1")
    world.tick()
    asked: list[object] = []

    def refuse(keys: list[TaskKey], nodes: list[str]) -> dict[TaskKey, str | None]:
        asked.append(tuple(nodes))
        return dict.fromkeys(keys, "Access/permission denied")

    world.fake.exclude = refuse  # type: ignore[method-assign,assignment]
    world.fake.end(first, TaskState.NODE_FAIL)
    lines = [line for _ in range(4) for line in world.tick().happenings]

    assert asked == [("n1",)]
    assert len([line for line in lines if "Access/permission denied" in line]) == 1


def test_a_forgiven_node_is_used_again(world: World) -> None:
    """By a person's wish, with an event; the next strike counts anew."""
    world.fake.node_names = NODES
    world.submit(SPECS[:1])
    (key,) = world.task_keys()
    world.begin(key, SPECS[0], node="n1")
    world.tick()
    world.fake.end(key, TaskState.NODE_FAIL)
    world.tick()
    assert [row["node"] for row in world.service.store.database.rows("exclusions")] == ["n1"]

    world.service.forgive(["n1"])

    assert world.service.store.database.rows("exclusions") == []
    assert "n1 forgiven by a person" in [e.cause for e in world.service.events(None)]
    world.tick()  # the job's own wait is over
    (again,) = waiting(world)
    assert world.fake._find(again).excluded == ()  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="nodes"):
        world.service.forgive(["n1; rm"])
