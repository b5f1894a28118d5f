"""Decisions for one job: what is evidence, what is not, and what follows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from jobs.contract.records import Outcome, StopCause
from jobs.states import JobState
from orchestrator.actions import (
    CancelTask,
    CloseTask,
    Complete,
    DecideNext,
    FinishStop,
    Kill,
    Move,
    Notify,
    RecordEnd,
    RejectResult,
    RequestStop,
    SeeProgress,
    SeeTask,
    Undelay,
)
from orchestrator.facts import EndClass, Evidence, Patience, StopFacts
from orchestrator.schedulers.base import Absent, Known, TaskState, Unreachable
from tests.contract.stub import make_spec
from tests.unit.orchestrator.cases import (
    NOW,
    attempt,
    decide,
    evidence,
    exit_record,
    job,
    of_kind,
    result_record,
)

RUNNING = Known(state=TaskState.RUNNING, nodes="n1")


def stop(cause: str = "rehearsal", **fields: float | None) -> StopFacts:
    """Return an open request to stop attempt 1."""
    values = {"id": 9, "epoch": 1, "cause": cause, "grace_seconds": 20.0, "requested_at": NOW - 5}
    return StopFacts(**{**values, **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize("answer", [None, Unreachable(reason="controller down")])
def test_a_failed_query_changes_nothing(answer: Unreachable | None) -> None:
    """P6: only the heartbeat, which is evidence of its own, is kept."""
    actions = decide(job(task_seen=TaskState.RUNNING), answer, evidence())

    assert [type(action) for action in actions] == [SeeProgress]


@pytest.mark.parametrize(
    "answer", [None, Unreachable(reason="x"), Absent(), RUNNING, Known(state=TaskState.FAILED)]
)
def test_a_valid_result_completes_the_job_whatever_the_scheduler_says(answer: object) -> None:
    """The artefact alone makes a job COMPLETED."""
    actions = decide(job(), answer, evidence(result=result_record()))  # type: ignore[arg-type]

    assert of_kind(actions, Complete)
    assert not of_kind(actions, DecideNext)


@pytest.mark.parametrize("state", [JobState.FAILED, JobState.CANCELLED])
def test_a_late_result_wins_over_failed_and_cancelled(state: JobState) -> None:
    """It is valid work."""
    actions = decide(job(state=state), RUNNING, evidence(result=result_record()))

    assert of_kind(actions, Complete)


def test_an_end_without_result_closes_the_task_and_asks_the_policy() -> None:
    """The order matters: the end is recorded before the next step counts it."""
    exits = exit_record(Outcome.SAVED, cause=StopCause.PREEMPTION)
    seen = evidence(attempts=(attempt(1, exits),))

    actions = decide(job(), Known(state=TaskState.PREEMPTED), seen)

    kinds = [type(a) for a in actions if isinstance(a, RecordEnd | CloseTask | DecideNext)]
    assert kinds == [RecordEnd, CloseTask, DecideNext]
    assert of_kind(actions, DecideNext)[0].meaning.end_class is EndClass.PREEMPTED


def test_a_rejected_result_is_put_aside_and_counts_as_incomplete() -> None:
    """Otherwise no later attempt could ever publish."""
    seen = evidence(result_rejected="result.json: job: is another's")

    actions = decide(job(), Known(state=TaskState.COMPLETED), seen)

    assert of_kind(actions, RejectResult)
    assert of_kind(actions, DecideNext)[0].meaning.end_class is EndClass.INCOMPLETE


def test_absence_is_loss_only_after_k_listings_over_the_grace_time() -> None:
    """Neither many quick listings nor one late one are enough."""
    quick = job(task_absent_count=50, task_absent_since=NOW - 5, heartbeat_at=NOW - 900)
    late = job(task_absent_count=0, task_absent_since=NOW - 900, heartbeat_at=NOW - 900)
    both = job(task_absent_count=2, task_absent_since=NOW - 61, heartbeat_at=NOW - 900)

    assert not of_kind(decide(quick, Absent(), evidence()), CloseTask)
    assert not of_kind(decide(late, Absent(), evidence()), CloseTask)
    assert (
        of_kind(decide(both, Absent(), evidence()), DecideNext)[0].meaning.end_class
        is EndClass.LOST
    )


def test_a_fresh_heartbeat_forbids_to_call_a_task_lost() -> None:
    """sacct may lag for hours while the job trains."""
    facts = job(task_absent_count=9, task_absent_since=NOW - 900, heartbeat_at=NOW - 5)

    assert not of_kind(decide(facts, Absent(), evidence()), CloseTask)


def test_an_appearance_clears_the_absence() -> None:
    """The count starts anew."""
    facts = job(task_absent_count=2, task_absent_since=NOW - 61)

    (see,) = of_kind(decide(facts, RUNNING, evidence()), SeeTask)

    assert (see.absent_count, see.absent_since) == (0, None)


def test_a_clock_that_jumped_starts_the_absence_anew() -> None:
    """Stopped time counts for nobody."""
    facts = job(task_absent_count=2, task_absent_since=NOW - 1e6, heartbeat_at=NOW - 1e6)

    assert not of_kind(decide(facts, Absent(), evidence(), resumed=True), CloseTask)


def test_an_authoritative_scheduler_is_believed_at_once() -> None:
    """The embedded one alone writes its queue."""
    patience = Patience(absent_answers=1, absent_seconds=0.0)

    assert of_kind(decide(job(), Absent(), evidence(), patience=patience), CloseTask)


def test_a_requeued_task_is_not_an_end_and_loses_its_delay() -> None:
    """Same id, again PENDING: the attempt is recorded, the task stays live."""
    exits = exit_record(Outcome.SAVED, cause=StopCause.PREEMPTION)
    delayed = Known(state=TaskState.DELAYED, reason="BeginTime", restarts=1)

    actions = decide(job(), delayed, evidence(attempts=(attempt(1, exits),)))

    assert of_kind(actions, Undelay)
    assert [m.state for m in of_kind(actions, Move)] == [JobState.QUEUED]
    assert [e.end_class for e in of_kind(actions, RecordEnd)] == [EndClass.PREEMPTED]
    assert not of_kind(actions, CloseTask)


def test_a_requeued_task_waits_one_look_for_accounting_to_say_how_it_had_ended() -> None:
    """Else a lost node would be taken for a command's requeue, and get the job again at once."""
    delayed = Known(state=TaskState.DELAYED, reason="BeginTime", earlier_awaited=True)
    silent, saved = attempt(1), attempt(1, exit_record(Outcome.SAVED, cause=StopCause.PREEMPTION))

    first = decide(job(), delayed, evidence(attempts=(silent,)))
    assert not of_kind(first, Undelay)
    assert not of_kind(first, RecordEnd)
    assert [see.seen for see in of_kind(first, SeeTask)] == [TaskState.DELAYED]

    second = decide(job(task_seen=TaskState.DELAYED), delayed, evidence(attempts=(silent,)))
    assert of_kind(second, Undelay)
    assert [e.end_class for e in of_kind(second, RecordEnd)] == [EndClass.PREEMPTED]

    # who left an exit record has said it already
    assert of_kind(decide(job(), delayed, evidence(attempts=(saved,))), Undelay)


def test_an_attempt_younger_than_the_answer_is_not_recorded_as_ended() -> None:
    """It began between the listing and the reading of the directory."""
    facts = job(epoch=None, attempts=0, state=JobState.QUEUED)

    actions = decide(facts, Known(state=TaskState.PENDING), evidence())

    assert not of_kind(actions, RecordEnd)


def test_a_replaced_attempt_is_recorded_while_the_new_one_runs() -> None:
    """Slurm requeued without anybody looking."""
    seen = evidence(epoch=2, attempts=(attempt(1), attempt(2)))

    (end,) = of_kind(decide(job(), RUNNING, seen), RecordEnd)

    assert (end.attempt.epoch, end.end_class) == (1, EndClass.PREEMPTED)


def test_a_waiting_task_of_a_finished_job_is_cancelled() -> None:
    """Nothing useful can come of it."""
    facts = job(state=JobState.COMPLETED)

    actions = decide(facts, Known(state=TaskState.PENDING), evidence(result=result_record()))

    assert of_kind(actions, CancelTask)


def test_completing_is_neither_running_nor_over() -> None:
    """The state stays what it was until the scheduler has decided."""
    actions = decide(job(), Known(state=TaskState.COMPLETING), evidence())

    assert not of_kind(actions, Move)
    assert not of_kind(actions, CloseTask)


def test_a_task_cancelled_by_a_person_ends_the_job() -> None:
    """A human scancel is not resubmitted; the site's is a preemption."""
    person = decide(job(), Known(state=TaskState.CANCELLED, by_person=True), evidence())
    site = decide(job(), Known(state=TaskState.CANCELLED), evidence())

    assert of_kind(person, Move)[0].state is JobState.CANCELLED
    assert not of_kind(person, DecideNext)
    assert of_kind(site, DecideNext)[0].meaning.end_class is EndClass.PREEMPTED


# --- rehearsals and other requests to stop

REHEARSED = make_spec(1, steps=10, grace_seconds=20.0, rehearsal={"at_step": 4})


@pytest.mark.parametrize(
    ("step", "rehearsed", "asks"), [(3, False, False), (4, False, True), (9, True, False)]
)
def test_a_rehearsal_begins_once_at_its_step(step: int, rehearsed: bool, asks: bool) -> None:
    """Once per job, when the step is reached."""
    facts = job(spec=REHEARSED, rehearsed=rehearsed)

    requests = of_kind(decide(facts, RUNNING, evidence(step=step)), RequestStop)

    assert [r.stop_cause for r in requests] == (["rehearsal"] if asks else [])


def test_the_notice_comes_first_and_the_kill_only_after_the_grace() -> None:
    """The site's sequence."""
    fresh = decide(job(stop=stop()), RUNNING, evidence())
    within = decide(job(stop=stop(notified_at=NOW - 19)), RUNNING, evidence())
    over = decide(job(stop=stop(notified_at=NOW - 21)), RUNNING, evidence())
    killed = decide(job(stop=stop(notified_at=NOW - 21, killed_at=NOW - 1)), RUNNING, evidence())

    assert [n.epoch for n in of_kind(fresh, Notify)] == [1]
    assert not of_kind(within, Notify) + of_kind(within, Kill)
    assert of_kind(over, Kill)
    assert not of_kind(killed, Kill)


def test_a_newer_attempt_is_never_killed_for_an_older_ones_request() -> None:
    """The request ends with the attempt that it was about."""
    seen = evidence(epoch=2, attempts=(attempt(2),))

    actions = decide(job(stop=stop(notified_at=NOW - 99)), RUNNING, seen)

    assert of_kind(actions, FinishStop)
    assert not of_kind(actions, Kill)


def test_a_silent_attempt_is_stalled_and_a_suspended_one_is_not() -> None:
    """SUSPENDED time is neither progress nor stall."""
    silent = job(heartbeat_at=NOW - 601, task_seen=TaskState.RUNNING, task_running_since=NOW - 999)
    suspended = replace(silent, task=replace(silent.task, seen=TaskState.SUSPENDED))
    frozen = Known(state=TaskState.SUSPENDED)

    assert [r.stop_cause for r in of_kind(decide(silent, RUNNING, evidence()), RequestStop)] == [
        "stalled"
    ]
    assert not of_kind(decide(suspended, frozen, evidence()), RequestStop)
    assert not of_kind(decide(suspended, RUNNING, evidence()), RequestStop)  # just continued
    assert not of_kind(decide(silent, RUNNING, evidence(), resumed=True), RequestStop)


def test_a_task_that_runs_and_never_begins_is_stalled_in_the_end() -> None:
    """Half an hour of imports is none."""
    facts = job(epoch=None, sequence=-1, task_seen=TaskState.RUNNING, task_running_since=NOW - 1801)

    (request,) = of_kind(decide(facts, RUNNING, Evidence()), RequestStop)

    assert (request.stop_cause, request.epoch) == ("stalled", None)


def test_a_stalled_attempt_is_killed_without_notice() -> None:
    """It would not hear it."""
    assert of_kind(decide(job(stop=stop("stalled")), RUNNING, evidence()), Kill)


def test_a_cancel_is_repeated_until_the_task_is_over() -> None:
    """At once, then after a while."""
    facts = job(state=JobState.CANCELLED, stop=stop("cancel", epoch=None))
    told = replace(facts, stop=stop("cancel", epoch=None, notified_at=NOW - 5))
    long_ago = replace(facts, stop=stop("cancel", epoch=None, notified_at=NOW - 31))

    assert of_kind(decide(facts, RUNNING, evidence()), CancelTask)
    assert not of_kind(decide(told, RUNNING, evidence()), CancelTask)
    assert of_kind(decide(long_ago, RUNNING, evidence()), CancelTask)


def test_the_end_of_a_cancelled_job_decides_nothing_more() -> None:
    """The task is closed, the job stays CANCELLED."""
    facts = job(state=JobState.CANCELLED, stop=stop("cancel", epoch=None, notified_at=NOW - 5))

    actions = decide(facts, Known(state=TaskState.FAILED, exit_code=75), evidence())

    assert of_kind(actions, CloseTask)
    assert of_kind(actions, FinishStop)
    assert not of_kind(actions, DecideNext) + of_kind(actions, Move)
