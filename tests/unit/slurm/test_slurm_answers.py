"""What the queue and accounting together say about a task of ours."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.schedulers.base import (
    Absent,
    EarlierRun,
    Known,
    TaskKey,
    TaskState,
    Unreachable,
)
from orchestrator.schedulers.slurm_answers import answer, by_task, needs_accounts
from orchestrator.schedulers.slurm_parse import AccountRow, QueueRow
from orchestrator.schedulers.slurm_queries import Accounts

T = TaskState
TOKEN = "0123456789abcdef"
KEY = TaskKey(token=TOKEN, scheduler_id="7", index=3)
ROW = QueueRow(
    array_id="7",
    index=3,
    state=T.RUNNING,
    word="RUNNING",
    reason="",
    nodes="n1",
    submitted="2026-01-01T00:00:00",
    name=f"orch:{TOKEN}",
    comment=f"orch:{TOKEN} quick",
)
RECORD = AccountRow(
    array_id="7",
    index=3,
    state=T.FAILED,
    word="FAILED",
    exit_code=1,
    submitted="2026-01-01T00:00:00",
    by_uid=None,
    name=f"orch:{TOKEN}",
)


def ask(row: QueueRow | None, accounts: Accounts | str | None = None) -> object:
    """Return the answer for KEY."""
    return answer(by_task([row] if row else []), KEY, accounts)


def test_a_live_task_needs_no_accounting() -> None:
    """One query a tick is the normal case."""
    assert not needs_accounts(by_task([ROW]), KEY)
    assert ask(ROW) == Known(state=T.RUNNING, nodes="n1")


def test_either_name_or_comment_makes_it_ours() -> None:
    """A site's submit plugin may rewrite one of them."""
    assert ask(replace(ROW, name="renamed")) == Known(state=T.RUNNING, nodes="n1")
    assert ask(replace(ROW, comment="")) == Known(state=T.RUNNING, nodes="n1")


@pytest.mark.parametrize("name", ["other", f"orch:{TOKEN}x", f"xorch:{TOKEN}", TOKEN])
def test_a_row_with_our_id_and_another_token_is_a_stranger(name: str) -> None:
    """Slurm re-issues ids after a crash: then ours is not there."""
    stranger = replace(ROW, name=name, comment=name)

    assert ask(stranger, Accounts()) == Absent()
    assert ask(stranger, Accounts(kept=False)) == Absent()


def test_a_job_that_is_no_array_is_a_stranger() -> None:
    """We submit arrays only."""
    assert ask(replace(ROW, index=None), Accounts()) == Absent()


def test_an_unknown_word_is_no_evidence() -> None:
    """Neither alive nor over."""
    assert isinstance(ask(replace(ROW, state=None, word="NEWSTATE")), Unreachable)
    unknown = replace(RECORD, state=None, word="NEWSTATE")
    assert isinstance(ask(None, Accounts(rows=(unknown,))), Unreachable)


def test_missing_everywhere_is_absent_only_if_accounting_answered() -> None:
    """A failed sacct makes the missing task unreachable, not lost."""
    assert ask(None, Accounts()) == Absent()
    assert isinstance(ask(None, "sacct: no answer within 30 s"), Unreachable)


def test_the_end_comes_from_accounting_when_the_queue_forgot() -> None:
    """The last record counts; the earlier ones are former lives of the same task."""
    first = replace(RECORD, state=T.PREEMPTED, word="PREEMPTED", submitted="2025-12-31T00:00:00")

    found = ask(None, Accounts(rows=(RECORD, first)))

    assert found == Known(state=T.FAILED, exit_code=1)


def test_records_of_a_former_owner_of_the_id_do_not_count() -> None:
    """Job ids are used again; names tell them apart."""
    former = replace(RECORD, name="orch:ffffffffffffffff")

    assert ask(None, Accounts(rows=(former,))) == Absent()


@pytest.mark.parametrize("state", [T.RUNNING, T.PENDING, T.COMPLETING, T.SUSPENDED])
def test_a_live_record_without_a_queued_task_proves_nothing(state: TaskState) -> None:
    """Accounting keeps running rows of jobs that the controller has lost."""
    assert ask(None, Accounts(rows=(replace(RECORD, state=state),))) == Absent()


def test_a_task_that_is_over_in_the_queue_gets_its_exit_code_from_accounting() -> None:
    """Both agree: the answer is complete."""
    row = replace(ROW, state=T.FAILED, word="FAILED", reason="NonZeroExitCode")

    assert needs_accounts(by_task([row]), KEY)
    assert ask(row, Accounts(rows=(RECORD,))) == Known(
        state=T.FAILED, reason="NonZeroExitCode", nodes="n1", exit_code=1
    )


def test_an_end_is_known_without_accounting() -> None:
    """slurmdbd may be down for hours."""
    row = replace(ROW, state=T.FAILED, word="FAILED")

    assert ask(row, "sacct is down") == Known(state=T.FAILED, nodes="n1")


@pytest.mark.parametrize(("uid", "by_person"), [(0, False), (1000, True), (None, False)])
def test_a_cancel_is_somebodys_only_if_accounting_names_them(
    uid: int | None, by_person: bool
) -> None:
    """The site's own cancels are brought back, a person's are not."""
    row = replace(ROW, state=T.CANCELLED, word="CANCELLED")
    record = replace(RECORD, state=T.CANCELLED, word="CANCELLED", exit_code=None, by_uid=uid)

    found = ask(row, Accounts(rows=(record,)))

    assert isinstance(found, Known)
    assert found.by_person is by_person


def test_root_is_a_person_where_we_are_root() -> None:
    """Then a cancel "by 0" may be our user's own; SlurmUser's is the site's everywhere."""
    record = replace(RECORD, state=T.CANCELLED, word="CANCELLED", exit_code=None, by_uid=0)
    ours_too = answer({}, KEY, Accounts(rows=(record,)), site_uids=frozenset())
    slurm = answer(
        {}, KEY, Accounts(rows=(replace(record, by_uid=64030),)), site_uids=frozenset({0, 64030})
    )

    assert isinstance(ours_too, Known)
    assert ours_too.by_person
    assert isinstance(slurm, Known)
    assert not slurm.by_person


def test_a_failure_for_lack_of_memory_is_called_so() -> None:
    """In the queue and in accounting; a cancel by a person stays one."""
    full = replace(RECORD, exit_code=9, out_of_memory=True)
    row = replace(ROW, state=T.FAILED, word="FAILED")

    for found in (ask(row, Accounts(rows=(full,))), ask(None, Accounts(rows=(full,)))):
        assert isinstance(found, Known)
        assert found.state is T.OUT_OF_MEMORY
    person = replace(full, state=T.CANCELLED, word="CANCELLED", by_uid=1000)
    cancelled = ask(None, Accounts(rows=(person,)))
    assert isinstance(cancelled, Known)
    assert cancelled.state is T.CANCELLED


RESTARTED = replace(ROW, state=T.DELAYED, word="PENDING", reason="BeginTime", nodes="")
WAITS = replace(RECORD, state=T.PENDING, word="PENDING", submitted="2026-01-02", nodes="")


@pytest.mark.parametrize(
    ("reason", "word", "state", "expected"),
    [
        ("BeginTime", "NODE_FAIL", T.NODE_FAIL, EarlierRun(state=T.NODE_FAIL, nodes="n2")),
        ("BeginTime", "PREEMPTED", T.PREEMPTED, EarlierRun(state=T.PREEMPTED, nodes="n2")),
        ("BeginTime", "REQUEUED", T.PENDING, None),  # by a command: the script's, or a person's
        (
            "launch failed requeued held",
            "REQUEUED",
            T.PENDING,
            EarlierRun(state=T.LAUNCH_FAILED, nodes="n2"),
        ),
    ],
)
def test_why_slurm_put_a_task_back_is_in_accounting(
    reason: str, word: str, state: TaskState, expected: EarlierRun | None
) -> None:
    """The record before the waiting one, as Slurm 22.05 writes them."""
    row = replace(RESTARTED, reason=reason)
    before = replace(RECORD, state=state, word=word, nodes="n2", submitted="2026-01-01")

    assert needs_accounts(by_task([row]), KEY)
    found = ask(row, Accounts(rows=(before, WAITS)))

    assert isinstance(found, Known)
    assert found.earlier == expected


@pytest.mark.parametrize(
    ("records", "awaited"),
    [
        ((), True),
        ((replace(RECORD, state=T.RUNNING, word="RUNNING"),), True),
        ((replace(RECORD, state=T.NODE_FAIL, word="NODE_FAIL"),), False),
        ((replace(RECORD, state=T.PENDING, word="REQUEUED"),), False),
        # of an earlier restart; the last run's record is not there yet, only that it had begun
        (
            (
                replace(RECORD, state=T.PREEMPTED, word="PREEMPTED"),
                replace(RECORD, state=T.RUNNING, word="RUNNING", submitted="2026-01-01T00:00:05"),
            ),
            True,
        ),
    ],
)
def test_an_end_that_accounting_does_not_have_yet_is_awaited(
    records: tuple[AccountRow, ...], awaited: bool
) -> None:
    """slurmdbd hears of it after slurmctld has put the task back."""
    row = replace(RESTARTED, submitted="2026-01-01T00:00:10")
    waits = replace(WAITS, submitted=row.submitted)

    for rows in (records, (*records, waits)):
        found = ask(row, Accounts(rows=rows))
        assert isinstance(found, Known)
        assert found.earlier_awaited is awaited


@pytest.mark.parametrize("accounts", ["slurmdbd is down", Accounts(kept=False)])
def test_nothing_is_awaited_of_an_accounting_that_does_not_answer(
    accounts: Accounts | str,
) -> None:
    """It may be down for hours, or not be kept at all."""
    found = ask(RESTARTED, accounts)

    assert isinstance(found, Known)
    assert not found.earlier_awaited


def test_a_task_that_a_person_holds_is_not_asked_about() -> None:
    """It may be held for days: no sacct in every tick."""
    held = replace(RESTARTED, state=T.HELD, reason="JobHeldUser")

    assert not needs_accounts(by_task([held]), KEY)
    assert ask(held) == Known(state=T.HELD, reason="JobHeldUser")


@pytest.mark.parametrize("state", [T.FAILED, T.CANCELLED])
@pytest.mark.parametrize("rows", [(), (replace(RECORD, state=T.RUNNING, word="RUNNING"),)])
def test_how_it_ended_waits_until_accounting_knows(
    state: TaskState, rows: tuple[AccountRow, ...]
) -> None:
    """Accounting answers, some seconds behind: the task is not over for us until it does."""
    row = replace(ROW, state=state, word=state.upper())

    found = ask(row, Accounts(rows=rows))

    assert isinstance(found, Known)
    assert found.state is T.COMPLETING


@pytest.mark.parametrize("state", [T.COMPLETED, T.TIMEOUT, T.PREEMPTED, T.NODE_FAIL])
def test_ends_that_need_no_exit_code_do_not_wait(state: TaskState) -> None:
    """And they are the same before and after accounting has caught up."""
    row = replace(ROW, state=state, word=state.upper())
    record = replace(RECORD, state=state, word=state.upper(), exit_code=0)

    assert ask(row, Accounts()) == ask(row, Accounts(rows=(record,)))


def test_a_cancel_by_nobody_known_is_no_evidence() -> None:
    """While accounting is down nothing is decided."""
    row = replace(ROW, state=T.CANCELLED, word="CANCELLED")

    assert isinstance(ask(row, "sacct is down"), Unreachable)


def test_without_any_accounting_a_cancel_is_a_persons() -> None:
    """Nobody can tell; a cancel is never undone on a guess."""
    row = replace(ROW, state=T.CANCELLED, word="CANCELLED")

    found = ask(row, Accounts(kept=False))

    assert found == Known(state=T.CANCELLED, nodes="n1", by_person=True)
