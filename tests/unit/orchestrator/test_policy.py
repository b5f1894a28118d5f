"""The table "What an attempt's end means" of the design, row by row."""

from __future__ import annotations

import pytest

from jobs.contract.records import Outcome, Overrides, StopCause
from jobs.history import AttemptHistory, JobHistory
from orchestrator.classification import Meaning, classify
from orchestrator.facts import Blame, EndClass, EndFacts
from orchestrator.policy import GiveUp, RunAgain, next_step
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
    return next_step(
        end,
        ends=ends(*classes),
        spec=spec,
        overrides=overrides or Overrides(),
        history=JobHistory(job=spec.id),
    )


@pytest.mark.parametrize("free", [E.PREEMPTED, E.TIME_LIMIT])
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
        (E.STALLED, {}, 3),
        (E.STALLED, {"stalls": 1}, 1),
        (E.LAUNCH, {"launch_failures": 5}, 5),
        (E.FENCED, {"node_failures": 4}, 4),
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


@pytest.mark.parametrize(
    ("cause", "said"),
    [
        ("rank 0: exception: KeyError: 'label'", "rank 0: exception: KeyError: 'label'"),
        ("left with 1", "exception: left with 1"),
        ("an exceptional day", "exception: an exceptional day"),
    ],
)
def test_a_reason_says_its_class_once(cause: str, said: str) -> None:
    """People read it in a narrow column."""
    step = next_step(
        Meaning(end_class=E.EXCEPTION, cause=cause),
        ends=ends(E.EXCEPTION),
        spec=make_spec(1),
        overrides=Overrides(),
        history=JobHistory(job="j"),
    )

    assert isinstance(step, GiveUp)
    assert step.reason.startswith(f"{said} (time 1; ")


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
    """The delay doubles up to the cap; jitter takes at most half of it, and is no chance."""
    delays = [after(*[E.NODE] * n, node_failures=50).delay for n in range(1, 20)]
    full = [min(300.0, 2.0**n) for n in range(19)]

    assert all(f / 2 <= d <= f for d, f in zip(delays, full, strict=True))
    assert len(set(delays)) == len(delays)
    assert delays[4] == after(*[E.NODE] * 5, node_failures=50).delay
    assert after(*[E.NODE] * 9, node_failures=50, max_delay_seconds=3.0).delay <= 3.0


def test_memory_that_went_is_told_by_whoever_knows() -> None:
    """An allocation that failed, the kernel's kill of a helper, the site: all are host OOM."""
    torch_words = "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"
    said = exit_record(Out.EXCEPTION, error=("RuntimeError", torch_words))
    python = exit_record(Out.EXCEPTION, error=("MemoryError", ""))
    helper = exit_record(Out.EXCEPTION, error=("RuntimeError", "DataLoader worker was killed"))

    for word, record in [
        (known(S.FAILED, 1), said),
        (known(S.FAILED, 1), python),
        (known(S.OUT_OF_MEMORY), helper),
    ]:
        assert classify(word, [record], asked=None, claimed=True).end_class is E.HOST_OOM
    assert classify(known(S.FAILED, 1), [helper], asked=None, claimed=True).end_class is E.EXCEPTION


@pytest.mark.parametrize(
    ("word", "outcomes", "blame"),
    [
        (known(S.NODE_FAIL), [], Blame.CERTAIN),
        (known(S.LAUNCH_FAILED), [], Blame.CERTAIN),
        (known(S.NODE_FAIL), [Out.PEER_LOST], Blame.CERTAIN),
        (known(S.FAILED, 137), [], Blame.SUSPECT),
        (known(S.FAILED, 75), [Out.PEER_LOST], Blame.SUSPECT),
        (None, [], Blame.NOBODY),
        (known(S.PREEMPTED), [], Blame.NOBODY),
        (known(S.TIMEOUT), [], Blame.NOBODY),
        (known(S.OUT_OF_MEMORY), [], Blame.NOBODY),
        (known(S.FAILED, 1), [Out.EXCEPTION], Blame.NOBODY),
        (known(S.CANCELLED), [], Blame.NOBODY),
    ],
)
def test_only_what_a_node_may_have_done_blames_it(
    word: Known | None, outcomes: list[Outcome], blame: Blame
) -> None:
    """Preemptions, limits, the user's own mistakes and memory strike no node."""
    exits = [exit_record(o) for o in outcomes]

    assert classify(word, exits, asked=None, claimed=True).blame is blame


def end(
    end_class: EndClass,
    *,
    committed: int | None = None,
    resumed: str | None = None,
    last: int | None = None,
    blame: Blame = Blame.NOBODY,
) -> EndFacts:
    """Return a recorded end."""
    return EndFacts(
        epoch=1,
        end_class=end_class,
        committed_step=committed,
        resumed_from=resumed,
        last_step=last,
        blame=blame,
    )


def follow(
    facts: list[EndFacts], *, overrides: Overrides | None = None, **retry: object
) -> RunAgain | GiveUp:
    """Return what follows the last of these ends."""
    spec = make_spec(1, retry=retry)
    last = facts[-1]
    return next_step(
        Meaning(end_class=last.end_class, cause="because", blame=last.blame),
        ends=facts,
        spec=spec,
        overrides=overrides or Overrides(),
        history=JobHistory(job=spec.id),
    )


def test_progress_gives_a_budget_back() -> None:
    """What fails after each new checkpoint does not add up; what fails without one does."""
    growing = [end(E.EXCEPTION, committed=step) for step in (10, 20, 30, 40)]
    stuck = [*growing, end(E.PREEMPTED, committed=40), end(E.EXCEPTION, committed=40)]

    assert isinstance(follow(growing, exceptions=1), RunAgain)
    assert isinstance(follow(stuck, exceptions=1), GiveUp)
    assert isinstance(follow(stuck, exceptions=2), RunAgain)


def test_growth_that_only_makes_up_for_lost_ground_gives_nothing_back() -> None:
    """After a fall back, steps that were committed before are not new ones."""
    facts = [end(E.NODE, committed=40), end(E.NODE, committed=10), end(E.NODE, committed=20)]

    assert isinstance(follow(facts, node_failures=2), GiveUp)


CHECKPOINT = "step-00000006.e0001"
DEATH = end(E.EXCEPTION, committed=6, resumed=CHECKPOINT, last=8)


def test_a_poison_checkpoint_is_put_away_once_then_it_stops() -> None:
    """Three deaths at one step from one checkpoint; the stop names step and checkpoints."""
    first = end(E.EXCEPTION, committed=6, last=8)  # it had begun from the beginning
    assert follow([first, DEATH, DEATH], exceptions=9).overrides == Overrides()  # type: ignore[union-attr]

    back = follow([first, DEATH, DEATH, DEATH], exceptions=9)

    assert isinstance(back, RunAgain)
    (distrusted,) = back.overrides.distrusted
    assert (distrusted.checkpoint, distrusted.died_at) == (CHECKPOINT, 8)
    assert "3 attempts died at step 8" in distrusted.reason
    again = end(E.EXCEPTION, committed=6, resumed="step-00000003.e0001", last=8)
    stop = follow([first, *[DEATH] * 3, again], exceptions=9, overrides=back.overrides)
    assert isinstance(stop, GiveUp)
    assert "step 8" in stop.reason
    assert CHECKPOINT in stop.reason
    assert "step-00000003.e0001" in stop.reason


def test_beyond_the_poisoned_step_a_job_is_as_good_as_new() -> None:
    """Going back helped: later trouble has its own budget, and its own way back."""
    overrides = follow([DEATH] * 3, exceptions=9).overrides  # type: ignore[union-attr]
    later = end(E.EXCEPTION, committed=30, resumed="step-00000030.e0005", last=33)

    assert isinstance(follow([*[DEATH] * 3, later], exceptions=9, overrides=overrides), RunAgain)
    second = follow([*[DEATH] * 3, *[later] * 3], exceptions=9, overrides=overrides)
    assert isinstance(second, RunAgain)
    assert [d.checkpoint for d in second.overrides.distrusted] == [CHECKPOINT, later.resumed_from]


def test_a_node_that_failed_poisons_nothing() -> None:
    """The site says whose fault it was."""
    facts = [end(E.NODE, committed=6, resumed=CHECKPOINT, last=8, blame=Blame.CERTAIN)] * 5

    step = follow(facts)

    assert isinstance(step, RunAgain)
    assert step.overrides == Overrides()


def test_what_is_changed_for_a_job_is_not_stopped_for_lack_of_progress() -> None:
    """2 -> 3 -> 4.5 … GB: the cap bounds it, not retry.restarts_without_progress."""
    spec = make_spec(1, retry={"max_memory_gb": 30.0}, resources={"memory_gb": 2.0})
    stuck = JobHistory(attempts=tuple(AttemptHistory(epoch=n) for n in range(1, 9)))
    oom = Meaning(end_class=E.HOST_OOM, cause="because")

    step = next_step(
        oom, ends=ends(*[E.HOST_OOM] * 8), spec=spec, overrides=Overrides(), history=stuck
    )

    assert isinstance(step, RunAgain)
    assert step.overrides.memory_gb == 3.0
