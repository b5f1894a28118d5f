"""Bad nodes are kept off, for a while, and never too many of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.contract.records import Outcome
from jobs.spec import JobSpec
from jobs.states import JobState
from orchestrator.facts import Blame
from orchestrator.node_strikes import NodeRules, Strike, exclusions, expand_nodes, strikes_of
from orchestrator.schedulers.base import OVER, TaskKey, TaskState
from orchestrator.service import Service
from orchestrator.site_schema import NodeStrikes
from tests.contract.stub import make_spec
from tests.unit.orchestrator.world import SPECS, World

RULES = NodeRules()
NODES = tuple(f"n{i}" for i in range(1, 13))  # room for 3
NOW = 100_000.0


def strike(node: str, job: str = "a", *, ago: float = 10.0, blame: Blame = Blame.SUSPECT) -> Strike:
    """Return a strike of so many seconds ago."""
    return Strike(node=node, job=job, at=NOW - ago, blame=blame, why="node: it died")


def kept_off(
    *strikes: Strike, nodes: tuple[str, ...] | None = NODES, **forgiven: float
) -> list[str]:
    """Return the nodes that are kept off now."""
    ordered = sorted(strikes, key=lambda one: one.at)
    found = exclusions(ordered, now=NOW, nodes=nodes, forgiven=forgiven, rules=RULES)
    return [one.node for one in found]


@pytest.mark.parametrize(
    ("text", "nodes"),
    [
        ("n1", ("n1",)),
        ("n[1-3,7],gpu01", ("n1", "n2", "n3", "n7", "gpu01")),
        ("c[08-10]", ("c08", "c09", "c10")),
        ("a,b", ("a", "b")),
        ("", ()),
        ("n[1-", ()),
        ("n[x]", ()),
        ("n[1-999999999]", ()),
    ],
)
def test_node_lists_are_expanded(text: str, nodes: tuple[str, ...]) -> None:
    """As Slurm writes them; what is no such list, or absurdly long, names no node."""
    assert expand_nodes(text) == nodes


def test_three_jobs_within_the_window_make_it_last() -> None:
    """Not three deaths of one job, not three in a day."""
    three = [strike("n1", job, ago=1200) for job in "abc"]

    assert kept_off(*three) == ["n1"]
    assert kept_off(*[strike("n1", "a", ago=1200)] * 3) == []
    assert kept_off(*[strike("n1", job, ago=1200 + 3000 * i) for i, job in enumerate("abc")]) == []


def test_the_sites_own_numbers_count() -> None:
    """site.yaml says how many deaths, within what time, for how long, and of how many nodes."""
    said = {"jobs": 2, "window_minutes": 5, "keep_off_minutes": 10, "probation_minutes": 1}
    rules = NodeStrikes.model_validate(said).rules()

    def off(
        *strikes: Strike, rules: NodeRules = rules, nodes: tuple[str, ...] | None = NODES
    ) -> int:
        ordered = sorted(strikes, key=lambda one: one.at)
        return len(exclusions(ordered, now=NOW, nodes=nodes, forgiven={}, rules=rules))

    assert off(strike("n1", "a", ago=310), strike("n1", "b", ago=100)) == 1
    assert off(strike("n1", "a", ago=410), strike("n1", "b", ago=100)) == 0
    failed = [strike("n1", ago=ago, blame=Blame.CERTAIN) for ago in (590, 720)]
    assert off(*failed) == 1
    assert off(failed[0]) == 0
    once = NodeStrikes.model_validate({**said, "failures": 1}).rules()
    assert off(failed[0], rules=once) == 1
    assert off(strike("n1", ago=610, blame=Blame.CERTAIN), rules=once) == 0
    assert off(strike("n1", ago=70)) == 0
    certain = [strike(f"n{i}", f"j{i}", blame=Blame.CERTAIN) for i in range(1, 9)]
    assert off(*certain, rules=NodeStrikes(share=0.5, failures=1).rules()) == 6
    assert off(*certain, rules=NodeStrikes(share=0).rules()) == 0
    assert off(*certain, rules=NodeStrikes(share=0).rules(), nodes=None) == 0
    assert NodeStrikes().rules() == RULES


def test_a_node_that_failed_once_is_trusted_again_soon_after_two_failures_not() -> None:
    """NODE_FAIL: once may be a restart, and the site gave it back; twice, it is the node."""

    def failed(*ago: float, job: str = "a") -> list[Strike]:
        return [strike("n1", job, ago=one, blame=Blame.CERTAIN) for one in ago]

    assert kept_off(*failed(200)) == ["n1"]
    assert kept_off(*failed(400)) == []
    assert kept_off(*[one for job in "abcd" for one in failed(400, job=job)]) == []
    assert kept_off(*failed(3500, 5000)) == ["n1"]
    assert kept_off(*failed(3700, 5000)) == []
    assert kept_off(*failed(400, 4500)) == []


def test_a_single_suspicion_sends_the_next_try_elsewhere() -> None:
    """For some minutes; where it falls on many nodes at once, it falls on none."""
    assert kept_off(strike("n1", ago=200)) == ["n1"]
    assert kept_off(strike("n1", ago=400)) == []
    assert kept_off(*[strike(f"n{i}", f"job{i}") for i in range(1, 5)]) == []


def test_never_more_than_a_share_of_the_nodes() -> None:
    """The worst ones; of two nodes one, of one node none, of unknown many a few."""
    bad = [
        strike(f"n{i}", f"{i}{k}", ago=ago, blame=Blame.CERTAIN)
        for i in range(1, 9)
        for k in range(i)
        for ago in (410, 10)
    ]

    assert kept_off(*bad) == ["n6", "n7", "n8"]
    assert kept_off(*bad, nodes=("n1", "n2")) == ["n2"]
    assert kept_off(*bad, nodes=("n1",)) == []
    assert len(kept_off(*bad, nodes=None)) == RULES.most_unknown


def test_forgiven_strikes_do_not_count() -> None:
    """Later ones do."""
    old = strike("n1", ago=100, blame=Blame.CERTAIN)

    assert kept_off(old, n1=NOW - 50) == []
    assert kept_off(old, strike("n1", ago=10, blame=Blame.CERTAIN), n1=NOW - 50) == ["n1"]


def test_of_several_nodes_nobody_knows_which_failed() -> None:
    """A certain word about two nodes is a suspicion against each."""
    one = strikes_of("n1", job="a", at=NOW, blame=Blame.CERTAIN, why="")
    two = strikes_of("n[1-2]", job="a", at=NOW, blame=Blame.CERTAIN, why="")

    assert [(s.node, s.blame) for s in one] == [("n1", Blame.CERTAIN)]
    assert [(s.node, s.blame) for s in two] == [("n1", Blame.SUSPECT), ("n2", Blame.SUSPECT)]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(NODES), st.sampled_from("abcdef"), st.integers(0, 9000), st.booleans()
        ),
        max_size=60,
    ),
    st.integers(0, 12),
)
def test_the_share_holds_whatever_happens(
    drawn: list[tuple[str, str, int, bool]], count: int
) -> None:
    """And only nodes that exist are kept off, each once."""
    strikes = [
        strike(n, j, ago=ago, blame=Blame.CERTAIN if sure else Blame.SUSPECT)
        for n, j, ago, sure in drawn
    ]
    nodes = NODES[:count]

    found = kept_off(*strikes, nodes=nodes)

    assert len(found) == len(set(found)) <= max(count > 1, count // 4)
    assert set(found) <= set(nodes)


# --- carried out


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
