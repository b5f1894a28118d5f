"""Again or stop, as a table: free while the job durably grows, bounded otherwise."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.contract.records import ErrorRecord, ExitRecord, Outcome, StopCause
from jobs.history import AttemptHistory, JobHistory
from jobs.retry import Again, Stop, decide, progress
from jobs.spec import RetrySpec

TOTAL = 60
RETRY = RetrySpec()
SAVED, LOST, FENCED = Outcome.SAVED, Outcome.PEER_LOST, Outcome.FENCED


def attempt(
    outcome: Outcome | None,
    committed: int | None = None,
    *,
    phase: str = "training",
    resumed: int | None = None,
    cause: StopCause | None = None,
    error: str | None = None,
    evaluated: int = 0,
) -> AttemptHistory:
    """Return an attempt that ended so; outcome None: without a word."""
    exits: tuple[ExitRecord, ...] = ()
    if outcome is not None:
        record = ErrorRecord(type="ValueError", message=error, digest="d") if error else None
        exits = (
            ExitRecord(
                epoch=1,
                rank=0,
                outcome=outcome,
                cause=cause,
                exit_code=75,
                last_step=committed or 0,
                committed_step=committed,
                error=record,
            ),
        )
    return AttemptHistory(
        epoch=1,
        exits=exits,
        phase=phase,
        resumed_step=resumed,
        committed_step=committed,
        total_steps=TOTAL,
        last_step=committed,
        evaluated=evaluated,
    )


def history(*attempts: AttemptHistory, unclaimed: int = 0) -> JobHistory:
    """Return a job's history."""
    return JobHistory(attempts=attempts, unclaimed=unclaimed)


DIED = attempt(None)
PREEMPTED = [attempt(SAVED, step, cause=StopCause.PREEMPTION) for step in (10, 20, 30, 40, 50)]

AGAIN: list[tuple[str, Sequence[AttemptHistory], int]] = [
    ("nothing has run", [], 0),
    ("preempted five times, always further", PREEMPTED, 0),
    ("time limit after growth", [attempt(SAVED, 20, cause=StopCause.TIME_LIMIT)], 0),
    ("rehearsal", [attempt(SAVED, 25, cause=StopCause.REHEARSAL)], 0),
    ("died at first", [DIED], 0),
    ("died, and two restarts died", [DIED] * 3, 0),
    ("growth begins the count anew", [DIED] * 3 + [attempt(SAVED, 5)] + [DIED] * 2, 0),
    ("a lost rank", [attempt(LOST, 20)], 0),
    ("one incomplete end", [attempt(Outcome.COMPLETED, TOTAL)], 0),
    ("device out of memory: the reconciler changes something", [attempt(Outcome.DEVICE_OOM)], 0),
    ("fenced attempts say nothing", [attempt(SAVED, 5)] + [attempt(FENCED)] * 9, 0),
    ("only fenced attempts", [attempt(FENCED)] * 9, 0),
    ("a configuration error that a later attempt got over",
     [attempt(Outcome.CONFIGURATION), attempt(SAVED, 5)], 0),
    ("testing after training is growth",
     [attempt(SAVED, TOTAL), DIED, DIED, attempt(None, TOTAL, phase="testing")], 0),
    ("three launches ended before an attempt began", [], 3),
    ("growth, then two launches without an attempt", [attempt(SAVED, 5)], 2),
    ("a broken checkpoint: growth counts from where it fell back to",
     [attempt(SAVED, 50), *[attempt(SAVED, s, resumed=s - 5) for s in (25, 30, 35, 40, 45)]], 0),
    ("a long test that each attempt brings further",
     [attempt(None, TOTAL, phase="testing", evaluated=n) for n in range(10, 90, 10)], 0),
    ("a long dev evaluation amid the training that each attempt brings further",
     [attempt(SAVED, 20, phase="evaluating", evaluated=n) for n in range(10, 90, 10)], 0),
]  # fmt: skip

STOP: list[tuple[str, Sequence[AttemptHistory], int, str]] = [
    ("died, and three restarts died", [DIED] * 4, 0, "no step was ever committed"),
    ("stuck at 20", [attempt(SAVED, 20)] * 4, 0,
     "3 restarts in a row in which the committed step stayed at 20"),
    ("stuck after growth", PREEMPTED + [attempt(LOST, 50)] * 3, 0, "stayed at 50"),
    ("saved by notice, but never further", [attempt(SAVED, 8, resumed=8)] * 4, 0, "stayed at 8"),
    ("nothing to save", [attempt(Outcome.NO_PROGRESS, cause=StopCause.PREEMPTION)] * 4, 0,
     "nothing new to save"),
    ("testing never ends",
     [attempt(SAVED, TOTAL), *[attempt(None, TOTAL, phase="testing")] * 4], 0, "phase testing"),
    ("testing scores no more",
     [attempt(None, TOTAL, phase="testing", evaluated=10)] * 4, 0,
     "phase testing, 10 examples of an evaluation scored"),
    ("back from testing to evaluating is no growth",
     [attempt(None, TOTAL, phase="testing"), *[attempt(None, TOTAL, phase="evaluating")] * 3], 0,
     "no progress"),
    ("configuration", [attempt(Outcome.CONFIGURATION, error="no such\nfile")], 0,
     "ValueError: no such;"),
    ("exception", [attempt(Outcome.EXCEPTION, 20, error="bad label")], 0,
     "ValueError: bad label (time 1; retry.exceptions allows 0 more)"),
    ("incomplete twice", [attempt(Outcome.COMPLETED)] * 2, 0, "there is no valid result"),
    ("four launches, no attempt", [], 4, "no progress: 3 restarts"),
    ("growth, then three launches, no attempt", [attempt(SAVED, 5)], 3, "before an attempt began"),
    ("deaths and launches add up", [DIED, DIED], 2, "no progress: 3 restarts"),
    ("a checkpoint that breaks again and again",
     [attempt(SAVED, 50), *[attempt(SAVED, 25, resumed=20)] * 5], 0, "no progress"),
    ("two checkpoints that break in turn",
     [attempt(SAVED, 50), *[attempt(SAVED, 25, resumed=20), attempt(SAVED, 15, resumed=10)] * 4], 0,
     "no progress"),
]  # fmt: skip


@pytest.mark.parametrize(("what", "attempts", "unclaimed"), AGAIN, ids=[row[0] for row in AGAIN])
def test_again(what: str, attempts: Sequence[AttemptHistory], unclaimed: int) -> None:
    """It grows, or its budget is not used up: it runs again."""
    decision = decide(history(*attempts, unclaimed=unclaimed), RETRY)

    assert isinstance(decision, Again), decision
    assert decision.reason


@pytest.mark.parametrize(
    ("what", "attempts", "unclaimed", "words"), STOP, ids=[row[0] for row in STOP]
)
def test_stop(what: str, attempts: Sequence[AttemptHistory], unclaimed: int, words: str) -> None:
    """It does not grow, or no retry can help: it stops and says why in plain words."""
    decision = decide(history(*attempts, unclaimed=unclaimed), RETRY)

    assert isinstance(decision, Stop), decision
    assert words in decision.reason


def test_a_result_stops_everything() -> None:
    """Finished work is never repeated, whatever the last attempt says."""
    done = JobHistory(attempts=(attempt(LOST),), completed=True)

    assert decide(done, RETRY) == Stop(reason="it has its result")


def test_budgets_are_the_matrix_authors() -> None:
    """`retry` of the matrix decides how often."""
    twice = [attempt(Outcome.EXCEPTION, error="flaky")] * 2
    generous = RetrySpec(exceptions=2, restarts_without_progress=1)

    assert isinstance(decide(history(*twice[:1]), generous), Again)
    assert isinstance(decide(history(*twice), generous), Stop)  # one restart without progress
    assert isinstance(decide(history(*[DIED] * 9), RetrySpec(restarts_without_progress=9)), Again)


def test_unattended_nothing_is_run_that_must_end_the_same_way() -> None:
    """The batch script cannot halve a micro-batch; only a watcher can."""
    oom = history(attempt(Outcome.DEVICE_OOM, error="no memory"))

    assert isinstance(decide(oom, RETRY), Again)
    assert isinstance(decide(oom, RETRY, unattended=True), Stop)


def test_delays_grow_only_without_progress() -> None:
    """A preempted job that grew is due at once; one that dies again and again waits."""
    patient = RetrySpec(restarts_without_progress=50)
    delays = [decide(history(*[DIED] * n), patient).delay for n in (1, 2, 3, 20)]  # type: ignore[union-attr]

    assert delays[0] == 0.0
    assert 0.5 <= delays[1] <= 1.0 <= delays[2] <= 2.0
    assert 150.0 <= delays[3] <= RETRY.max_delay_seconds
    assert decide(history(*PREEMPTED), RETRY).delay == 0.0  # type: ignore[union-attr]


def test_reasons_cannot_control_a_terminal() -> None:
    """The message of an exception is somebody else's text."""
    decision = decide(
        history(attempt(Outcome.EXCEPTION, error="\x1b]0;x\x07\u202eboo\nmore")), RETRY
    )

    assert decision.reason.isprintable()


def any_attempt(draw: random.Random) -> AttemptHistory:
    """Return an attempt that ended in one of the ways that cost nothing."""
    return attempt(
        draw.choice([SAVED, LOST, Outcome.NO_PROGRESS, None]),
        draw.choice([None, draw.randint(0, TOTAL)]),
        phase=draw.choice(["starting", "training", "evaluating", "testing"]),
        resumed=draw.choice([None, draw.randint(0, TOTAL)]),
    )


@pytest.mark.parametrize("seed", range(30))
def test_no_job_restarts_for_ever(seed: int) -> None:
    """Growth is bounded by the steps, so every sequence of free ends stops somewhere."""
    draw = random.Random(seed)
    attempts: list[AttemptHistory] = []
    while isinstance(decide(history(*attempts), RetrySpec(restarts_without_progress=5)), Again):
        attempts.append(any_attempt(draw))
        assert len(attempts) < 2000


@settings(deadline=None, max_examples=100)
@given(st.lists(st.integers(1, 20), min_size=1, max_size=20))
def test_what_always_grows_never_stops(gains: list[int]) -> None:
    """Any number of preemptions is free as long as each attempt commits a later step."""
    steps = [sum(gains[: n + 1]) for n in range(len(gains))]
    grown = history(*[attempt(SAVED, step) for step in steps])

    assert progress(grown).fruitless == 0
    assert isinstance(decide(grown, RETRY), Again)
