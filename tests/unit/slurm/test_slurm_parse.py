"""What Slurm prints becomes values, or `Garbled`; nothing can forge a row."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.schedulers.base import TaskState
from orchestrator.schedulers.slurm_parse import (
    QUEUE_FIELDS,
    STATES,
    AccountRow,
    Garbled,
    Marks,
    QueueRow,
    compress_ranges,
    expand_job_id,
    expand_ranges,
    parse_accounts,
    parse_queue,
    parse_submitted,
    queue_format,
)

MARKS = Marks(separator="~s~", end="~e!")
T = TaskState

# Every word of squeue(1) "JOB STATE CODES" and sacct(1), and what it must mean.
WORDS = {
    "BOOT_FAIL": T.NODE_FAIL,
    "CANCELLED": T.CANCELLED,
    "COMPLETED": T.COMPLETED,
    "COMPLETING": T.COMPLETING,
    "CONFIGURING": T.PENDING,
    "DEADLINE": T.TIMEOUT,
    "EXPEDITING": T.COMPLETING,
    "FAILED": T.FAILED,
    "LAUNCH_FAILED": T.LAUNCH_FAILED,
    "NODE_FAIL": T.NODE_FAIL,
    "OUT_OF_MEMORY": T.OUT_OF_MEMORY,
    "PENDING": T.PENDING,
    "POWER_UP_NODE": T.PENDING,
    "PREEMPTED": T.PREEMPTED,
    "RECONFIG_FAIL": T.LAUNCH_FAILED,
    "REQUEUED": T.PENDING,
    "REQUEUE_FED": T.PENDING,
    "REQUEUE_HOLD": T.HELD,
    "RESIZING": T.RUNNING,
    "RESV_DEL_HOLD": T.HELD,
    "REVOKED": T.CANCELLED,
    "RUNNING": T.RUNNING,
    "SIGNALING": T.RUNNING,
    "SPECIAL_EXIT": T.HELD,
    "STAGE_OUT": T.COMPLETING,
    "STOPPED": T.SUSPENDED,
    "SUSPENDED": T.SUSPENDED,
    "TIMEOUT": T.TIMEOUT,
    "UPDATE_DB": T.COMPLETING,
}


def queue_row(*fields: str) -> str:
    """Return a row as squeue prints it; all but the time of submission is given."""
    fields = (*fields[:5], "2026-11-23T00:00:00", *fields[5:])
    return MARKS.separator.join(fields) + MARKS.end + "\n"


def account_row(*fields: str) -> str:
    """Return a row as sacct prints it; five fields get a node and no memory."""
    if len(fields) == 5:
        *first, name = fields
        fields = (*first, "n1", "", "", name)
    return MARKS.separator.join(fields) + "\n"


def test_the_table_of_states_is_complete() -> None:
    """Each word that Slurm's manuals know has the meaning that this test states."""
    assert STATES == WORDS


@pytest.mark.parametrize("word", sorted(WORDS))
def test_each_state_word_is_read_from_both_commands(word: str) -> None:
    """squeue and sacct rows carry the mapped state; a launch failure may still be requeued."""
    (queued,) = parse_queue(queue_row("7", "3", word, "None", "n1", "orch:t", "c"), MARKS)
    (account,) = parse_accounts(account_row("7_3", word, "0:0", "2026-01-01", "orch:t"), MARKS)

    undecided = word in ("LAUNCH_FAILED", "RECONFIG_FAIL")
    assert queued.state is (T.COMPLETING if undecided else WORDS[word])
    assert account.state is WORDS[word]


def test_a_row_is_read_whole() -> None:
    """All fields arrive; a reason None is no reason."""
    text = queue_row("12", "3", "RUNNING", "None", "n[1-2]", "orch:abc", "orch:abc quick")

    assert parse_queue(text, MARKS) == (
        QueueRow(
            array_id="12",
            index=3,
            state=T.RUNNING,
            word="RUNNING",
            reason="",
            nodes="n[1-2]",
            submitted="2026-11-23T00:00:00",
            name="orch:abc",
            comment="orch:abc quick",
        ),
    )


@pytest.mark.parametrize(
    ("word", "reason", "state"),
    [
        ("PENDING", "BeginTime", T.DELAYED),
        ("PENDING", "Resources", T.PENDING),
        ("PENDING", "JobHeldUser", T.HELD),
        ("PENDING", "JobHeldAdmin", T.HELD),
        ("PENDING", "launch failed requeued held", T.HELD),
        ("RUNNING", "BeginTime", T.RUNNING),
        ("NEW_WORD", "None", None),
        ("running", "None", None),
    ],
)
def test_the_reason_refines_only_waiting(word: str, reason: str, state: TaskState | None) -> None:
    """A requeued task waits for its begin time; an unknown word is never guessed."""
    (row,) = parse_queue(queue_row("1", "0", word, reason, "", "n", ""), MARKS)

    assert row.state is state


def test_no_rows_is_an_empty_listing() -> None:
    """An empty queue is an answer."""
    assert parse_queue("", MARKS) == ()
    assert parse_accounts("", MARKS) == ()


@pytest.mark.parametrize(
    "text",
    [
        "Welcome to the cluster!\n",
        queue_row("1", "0", "RUNNING", "None", "n1", "name", "c") + "1~s~0~s~RUNN",
        "banner\n" + queue_row("1", "0", "RUNNING", "None", "n1", "name", "c"),
        queue_row("1", "0", "RUNNING", "None", "n1", "name"),
        queue_row("1", "0", "RUNNING", "None", "n1", "a", "b", "c"),
        queue_row("x", "0", "RUNNING", "None", "n1", "name", "c"),
        queue_row("1", "-1", "RUNNING", "None", "n1", "name", "c"),
        queue_row("0", "0", "RUNNING", "None", "n1", "name", "c"),
        "slurm_load_jobs error: Unable to contact slurm controller",
    ],
)
def test_a_listing_with_anything_else_in_it_is_not_believed(text: str) -> None:
    """Banners, half rows, rows of other shapes: the whole answer is garbled."""
    with pytest.raises(Garbled):
        parse_queue(text, MARKS)


def test_a_job_name_cannot_forge_a_row() -> None:
    """The marks of a call are drawn after every name was given; old ones frame nothing."""
    old = Marks.draw()
    evil = (
        "x\n" + old.separator.join(["9", "0", "COMPLETED", "None", "", "", "orch:t", ""]) + old.end
    )
    new = Marks.draw()
    text = new.separator.join(["1", "0", "RUNNING", "None", "n1", "", evil, ""]) + new.end + "\n"

    (row,) = parse_queue(text, new)

    assert (row.array_id, row.name) == ("1", evil)


@pytest.mark.parametrize("length", [101, 128, 1024])
def test_a_long_name_is_neither_cut_nor_shifts_the_other_fields(length: int) -> None:
    """Fixed columns lost the state behind a name of more than a hundred characters."""
    name, comment = "orch:t " + "n" * length, "c" * length

    (queued,) = parse_queue(queue_row("7", "3", "RUNNING", "None", "n1", name, comment), MARKS)
    (account,) = parse_accounts(account_row("7_3", "RUNNING", "0:0", "2026-01-01", name), MARKS)

    assert (queued.state, queued.name, queued.comment) == (T.RUNNING, name, comment)
    assert (account.state, account.name) == (T.RUNNING, name)


def test_the_format_asks_for_all_fields_between_marks() -> None:
    """squeue prints exactly what the parser expects."""
    assert queue_format(MARKS) == "~s~".join(QUEUE_FIELDS) + "~e!"


def test_marks_are_new_in_each_call() -> None:
    """A name cannot contain marks that did not exist."""
    assert Marks.draw() != Marks.draw()


@pytest.mark.parametrize(
    ("state", "uid"),
    [("CANCELLED by 1000", 1000), ("CANCELLED by 0", 0), ("CANCELLED", None)],
)
def test_who_cancelled_is_read(state: str, uid: int | None) -> None:
    """`CANCELLED by UID` is a word with a number behind it."""
    (row,) = parse_accounts(account_row("1_0", state, "0:15", "2026", "n"), MARKS)

    assert (row.state, row.by_uid) == (T.CANCELLED, uid)


@pytest.mark.parametrize(
    ("text", "code"), [("0:0", 0), ("75:0", 75), ("0:9", None), ("1:15", None), ("", None)]
)
def test_an_exit_code_is_one_only_without_a_signal(text: str, code: int | None) -> None:
    """`code:signal`; a death by signal has no exit code."""
    (row,) = parse_accounts(account_row("1_0", "FAILED", text, "2026", "n"), MARKS)

    assert row.exit_code == code


MEMORY = [
    # rows of (JobID, State, ExitCode, MaxRSS, ReqMem); whether memory was used up
    ([("1_0", "OUT_OF_MEMORY", "0:125", "", "100M")], True),
    # cgroups: the step says it, the job has the script's exit code
    (
        [
            ("1_0", "FAILED", "9:0", "", "100M"),
            ("1_0.batch", "FAILED", "9:0", "12488K", ""),
            ("1_0.0", "OUT_OF_MEMORY", "0:125", "90000K", ""),
        ],
        True,
    ),
    # OverMemoryKill, as Slurm 22.05 printed it
    (
        [
            ("1_0", "FAILED", "9:0", "", "100M"),
            ("1_0.batch", "FAILED", "9:0", "12488K", ""),
            ("1_0.0", "CANCELLED by 0", "0:9", "154784K", ""),
        ],
        True,
    ),
    (
        [
            ("1_0", "FAILED", "1:0", "", "100M"),
            ("1_0.0", "FAILED", "1:0", "54784K", ""),
        ],
        False,
    ),
    # a preempted step that had filled its memory is no victim of it
    (
        [
            ("1_0", "COMPLETED", "0:0", "", "100M"),
            ("1_0.0", "COMPLETED", "0:0", "99999K", ""),
        ],
        False,
    ),
    ([("1_0", "FAILED", "9:0", "", "?"), ("1_0.0", "CANCELLED by 0", "0:9", "1G", "")], False),
]


@pytest.mark.parametrize(("printed", "expected"), MEMORY)
def test_steps_say_that_memory_was_used_up(
    printed: list[tuple[str, str, str, str, str]], expected: bool
) -> None:
    """Steps are no records of their own; the job's record has what they say."""
    text = "".join(
        account_row(job, state, code, "2026", "n1", used, asked, "orch:t")
        for job, state, code, used, asked in printed
    )

    (row,) = parse_accounts(text, MARKS)

    assert (row.array_id, row.index, row.out_of_memory) == ("1", 0, expected)


def test_a_step_belongs_to_the_run_before_it() -> None:
    """A requeued task has several records; only the run that ran out of memory is marked."""
    text = (
        account_row("1_0", "FAILED", "9:0", "2026-01-01", "n1", "", "1G", "orch:t")
        + account_row("1_0.0", "OUT_OF_MEMORY", "0:125", "2026-01-01", "n1", "", "", "python")
        + account_row("1_0", "PREEMPTED", "0:0", "2026-01-02", "n2", "", "1G", "orch:t")
        + account_row("1_0.0", "CANCELLED", "0:15", "2026-01-02", "n2", "1M", "", "python")
    )

    rows = parse_accounts(text, MARKS)

    assert [(row.nodes, row.out_of_memory) for row in rows] == [("n1", True), ("n2", False)]


def test_waiting_arrays_are_expanded_in_accounting() -> None:
    """sacct lists tasks that never started as one row."""
    rows = parse_accounts(account_row("9_[0,3-4%2]", "CANCELLED", "0:0", "2026", "n"), MARKS)

    assert [(row.array_id, row.index) for row in rows] == [("9", 0), ("9", 3), ("9", 4)]


def test_a_newline_in_a_job_name_is_part_of_the_name() -> None:
    """A line without marks continues the row before it and forges none."""
    text = account_row("1_0", "RUNNING", "0:0", "2026", "a\n1_1|COMPLETED|0:0|2026|orch:t")

    (row,) = parse_accounts(text, MARKS)

    assert isinstance(row, AccountRow)
    assert row.name == "a\n1_1|COMPLETED|0:0|2026|orch:t"


@pytest.mark.parametrize(
    "text",
    [
        "1_0~s~COMPLETED~s~0:0~s~2026~s~name",
        "sacct: banner\n",
        account_row("1_0", "COMPLETED", "0:0", "2026"),
        account_row("1_x", "COMPLETED", "0:0", "2026", "n"),
        account_row("1_[0-", "COMPLETED", "0:0", "2026", "n"),
        account_row("", "COMPLETED", "0:0", "2026", "n"),
    ],
)
def test_garbled_accounts_are_not_believed(text: str) -> None:
    """A cut or foreign line spoils the answer."""
    with pytest.raises(Garbled):
        parse_accounts(text, MARKS)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12", [("12", None)]),
        ("12_3", [("12", 3)]),
        ("12_[0-2]", [("12", 0), ("12", 1), ("12", 2)]),
        ("12_[1,4-5%1]", [("12", 1), ("12", 4), ("12", 5)]),
        ("12_[0,4-10:3]", [("12", 0), ("12", 4), ("12", 7), ("12", 10)]),
        ("12_[0-20:10%1]", [("12", 0), ("12", 10), ("12", 20)]),
        ("12+1", []),
    ],
)
def test_job_ids_of_all_forms(text: str, expected: list[tuple[str, int | None]]) -> None:
    """Single jobs, tasks, ranges; parts of heterogeneous jobs are nobody's."""
    assert expand_job_id(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "a", "12_", "12_[]", "12_[3-1]", "12_[0-4:0]", "12_[4:2]", "12_[0-999999999]", "-1"],
)
def test_wrong_job_ids_are_garbled(text: str) -> None:
    """Absurd ranges are refused instead of expanded."""
    with pytest.raises(Garbled):
        expand_job_id(text)


@given(st.sets(st.integers(0, 5000), min_size=1, max_size=200))
def test_ranges_are_inverse(indices: set[int]) -> None:
    """Compressing and expanding gives the same indices, sorted."""
    assert expand_ranges(compress_ranges(list(indices))) == sorted(indices)


@pytest.mark.parametrize(
    ("text", "job_id"),
    [
        ("123\n", "123"),
        ("123;cluster\n", "123"),
        ("123", "123"),
        ("", None),
        ("Submitted batch job 123\n", None),
        ("Welcome!\n123\n", None),
        ("123\n124\n", None),
        ("123abc\n", None),
        ("0\n", None),
        ("-1\n", None),
        ("१२३\n", None),
    ],
)
def test_only_a_bare_job_id_is_an_id(text: str, job_id: str | None) -> None:
    """A banner around it makes the outcome unknown."""
    assert parse_submitted(text) == job_id


@given(st.text(max_size=300))
@settings(max_examples=300)
def test_no_text_raises_anything_but_garbled(text: str) -> None:
    """The parsers are total."""
    marks = Marks(separator="|", end="\n")  # marks that random text does contain
    for parse in (parse_queue, parse_accounts):
        try:
            parse(text, marks)
        except Garbled:
            continue
    parse_submitted(text)


@given(st.lists(st.sampled_from(["|", "\n", "1", "_", "0", "RUNNING", "0:0", "[0-2]", "x"])))
@settings(max_examples=300)
def test_almost_rows_raise_nothing_but_garbled(parts: list[str]) -> None:
    """Texts made of the grammar's own pieces reach the inner parsers."""
    marks = Marks(separator="|", end="!")
    for parse in (parse_queue, parse_accounts):
        try:
            parse("".join(parts), marks)
        except Garbled:
            continue
