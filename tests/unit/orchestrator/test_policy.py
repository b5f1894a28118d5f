"""The table "What an attempt's end means" of the design, row by row."""

from __future__ import annotations

import pytest

from jobs.contract.records import Outcome, Overrides, StopCause
from orchestrator.facts import EndClass, EndFacts
from orchestrator.policy import GiveUp, Meaning, RunAgain, classify, next_step
from orchestrator.schedulers.base import OVER, Known, TaskState
from tests.contract.stub import make_spec
from tests.unit.orchestrator.cases import exit_record

S, Out, C, E = TaskState, Outcome, StopCause, EndClass


def known(state: TaskState, code: int | None = None, *, by_person: bool = False) -> Known:
    """Return the scheduler's word."""
    return Known(state=state, exit_code=code, by_person=by_person)


TABLE = [
    # scheduler, exit records, our own request, expected
    (known(S.PREEMPTED), [], None, E.PREEMPTED),
    (known(S.FAILED, 75), [(Out.SAVED, C.PREEMPTION)], None, E.PREEMPTED),
    (known(S.FAILED, 75), [(Out.NO_PROGRESS, C.PREEMPTION)], None, E.PREEMPTED),
    (known(S.FAILED, 143), [], None, E.PREEMPTED),
    (known(S.FAILED, 75), [], None, E.PREEMPTED),
    (known(S.CANCELLED), [], None, E.PREEMPTED),  # by the site
    (known(S.COMPLETED, 0), [(Out.SAVED, C.REHEARSAL)], None, E.PREEMPTED),
    (known(S.TIMEOUT), [], None, E.TIME_LIMIT),
    (known(S.FAILED, 75), [(Out.SAVED, C.TIME_LIMIT)], None, E.TIME_LIMIT),
    (known(S.TIMEOUT), [(Out.SAVED, None)], None, E.TIME_LIMIT),
    (known(S.NODE_FAIL), [], None, E.NODE),
    (known(S.LAUNCH_FAILED), [], None, E.NODE),
    (known(S.FAILED, 137), [], None, E.NODE),
    (known(S.FAILED, 1), [(Out.PEER_LOST, None)], None, E.NODE),
    (known(S.OUT_OF_MEMORY), [], None, E.HOST_OOM),
    (known(S.OUT_OF_MEMORY), [(Out.PEER_LOST, None)], None, E.HOST_OOM),
    (known(S.PREEMPTED), [(Out.PEER_LOST, None)], None, E.PREEMPTED),
    (known(S.FAILED, 1), [(Out.DEVICE_OOM, None), (Out.PEER_LOST, None)], None, E.DEVICE_OOM),
    (known(S.FAILED, 1), [(Out.PEER_LOST, None), (Out.EXCEPTION, None)], None, E.EXCEPTION),
    (known(S.COMPLETED, 0), [(Out.EXCEPTION, None)], None, E.EXCEPTION),  # the scheduler lies
    (known(S.PREEMPTED), [(Out.EXCEPTION, None)], None, E.EXCEPTION),
    (known(S.FAILED, 78), [], None, E.CONFIGURATION),
    (known(S.FAILED, 78), [(Out.CONFIGURATION, None)], None, E.CONFIGURATION),
    (known(S.COMPLETED, 0), [], None, E.INCOMPLETE),
    (known(S.COMPLETED, 0), [(Out.COMPLETED, None)], None, E.INCOMPLETE),
    (known(S.FAILED, 1), [(Out.FENCED, None)], None, E.FENCED),
    (known(S.CANCELLED, by_person=True), [], None, E.CANCELLED),
    (known(S.CANCELLED, by_person=True), [(Out.SAVED, C.PREEMPTION)], None, E.CANCELLED),
    (known(S.FAILED, 75), [(Out.SAVED, C.CANCEL)], None, E.CANCELLED),
    (known(S.FAILED, 75), [(Out.SAVED, None)], "cancel", E.CANCELLED),
    (known(S.NODE_FAIL), [], "rehearsal", E.PREEMPTED),
    (known(S.FAILED, 137), [], "preemption", E.PREEMPTED),
    (known(S.FAILED, 137), [], "stalled", E.STALLED),
    (known(S.FAILED, 1), [(Out.EXCEPTION, None)], "rehearsal", E.EXCEPTION),
    (None, [], None, E.LOST),
    (None, [(Out.EXCEPTION, None)], None, E.EXCEPTION),
]


@pytest.mark.parametrize(("word", "outcomes", "asked", "expected"), TABLE)
def test_each_row_of_the_table(
    word: Known | None,
    outcomes: list[tuple[Outcome, StopCause | None]],
    asked: str | None,
    expected: EndClass,
) -> None:
    """Exit records beat the scheduler; a request of our own explains what nobody else does."""
    exits = [exit_record(o, rank=rank, cause=c) for rank, (o, c) in enumerate(outcomes)]

    meaning = classify(word, exits, asked=asked, claimed=True)

    assert meaning.end_class is expected
    assert meaning.cause
    assert "\n" not in meaning.cause


def test_every_end_of_every_scheduler_has_a_class() -> None:
    """No state that is over may fall through."""
    for state in OVER:
        assert classify(known(state, 1), [], asked=None, claimed=True).end_class in EndClass


def test_a_task_that_never_began_is_a_launch_failure() -> None:
    """FAILED with 1 and no claim: the interpreter, the script, the site."""
    assert classify(known(S.FAILED, 1), [], asked=None, claimed=False).end_class is E.LAUNCH


def ends(*classes: EndClass) -> list[EndFacts]:
    """Return recorded ends."""
    return [EndFacts(epoch=i + 1, end_class=c) for i, c in enumerate(classes)]


def after(
    *classes: EndClass, overrides: Overrides | None = None, **retry: object
) -> RunAgain | GiveUp:
    """Return what follows the last of these ends."""
    spec = make_spec(1, retry=retry, resources={"memory_gb": 4.0})
    end = Meaning(end_class=classes[-1], cause="because")
    return next_step(end, ends=ends(*classes), spec=spec, overrides=overrides or Overrides())


@pytest.mark.parametrize("free", [E.PREEMPTED, E.TIME_LIMIT, E.FENCED])
def test_preemptions_and_time_limits_are_free(free: EndClass) -> None:
    """A hundred of them cost no budget (progress is jobs.retry's question)."""
    assert isinstance(after(*[free] * 100), RunAgain)


@pytest.mark.parametrize(
    ("cause", "retry", "allowed"),
    [
        (E.EXCEPTION, {}, 0),
        (E.EXCEPTION, {"exceptions": 2}, 2),
        (E.INCOMPLETE, {}, 1),
        (E.NODE, {"node_failures": 4}, 4),
        (E.LOST, {"node_failures": 4}, 4),
        (E.STALLED, {"node_failures": 4}, 4),
        (E.LAUNCH, {}, 2),
        (E.CONFIGURATION, {}, 0),
    ],
)
def test_budgets_per_cause(cause: EndClass, retry: dict[str, object], allowed: int) -> None:
    """So many further attempts, then a stop that names the key of the budget."""
    for count in range(1, allowed + 1):
        assert isinstance(after(*[cause] * count, **retry), RunAgain)

    step = after(*[cause] * (allowed + 1), **retry)

    assert isinstance(step, GiveUp)
    assert "because" in step.reason


def test_a_budget_is_not_spent_by_other_causes() -> None:
    """Preemptions between exceptions count for nothing, and the other way round."""
    mixed = [E.PREEMPTED, E.NODE, E.PREEMPTED, E.INCOMPLETE]

    assert isinstance(after(*mixed), RunAgain)


def test_out_of_memory_gets_half_as_much_again_up_to_the_cap() -> None:
    """4 -> 6 -> 8 (cap) -> stop."""
    first = after(E.HOST_OOM, max_memory_gb=8.0)
    assert isinstance(first, RunAgain)
    assert first.overrides.memory_gb == 6.0
    second = after(E.HOST_OOM, E.HOST_OOM, overrides=first.overrides, max_memory_gb=8.0)
    assert isinstance(second, RunAgain)
    assert second.overrides.memory_gb == 8.0
    third = after(*[E.HOST_OOM] * 3, overrides=second.overrides, max_memory_gb=8.0)
    assert isinstance(third, GiveUp)
    assert "max_memory_gb" in third.reason


def test_without_a_cap_more_memory_is_the_persons_decision() -> None:
    """The reason names both keys."""
    step = after(E.HOST_OOM)

    assert isinstance(step, GiveUp)
    assert "resources.memory_gb" in step.reason


def test_device_out_of_memory_halves_the_micro_batch_twice() -> None:
    """4 -> 2 -> 1 -> stop; other overrides stay."""
    first = after(E.DEVICE_OOM, overrides=Overrides(memory_gb=3.0))
    assert isinstance(first, RunAgain)
    assert first.overrides == Overrides(micro_batch=2, memory_gb=3.0)
    second = after(E.DEVICE_OOM, E.DEVICE_OOM, overrides=first.overrides)
    assert isinstance(second, RunAgain)
    assert second.overrides.micro_batch == 1
    assert isinstance(after(*[E.DEVICE_OOM] * 3, overrides=second.overrides), GiveUp)


def test_repeated_node_failures_wait_longer() -> None:
    """The delay doubles and is bounded."""
    delays = [after(*[E.NODE] * n, node_failures=50).delay for n in range(1, 20)]

    assert delays[:3] == [1.0, 2.0, 4.0]
    assert max(delays) == 300.0
