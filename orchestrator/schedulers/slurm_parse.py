"""What Slurm's commands print, as values. Pure; raises nothing but `Garbled`.

Rows are asked for with a separator and a row mark drawn anew for each call, so that no job
name, comment or banner can forge, split or swallow a row (a newline in a job name forges rows
of a plain `squeue -o '%i|%T|%j'`). What the marks do not frame is not a row; what they frame
and does not fit is `Garbled`: the whole answer is then not believed.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from orchestrator.schedulers.base import TaskState

_T = TaskState

# Every state word of Slurm's manuals and sources up to 25.11: base states, and the flags that are
# printed instead of them. An unknown word is never guessed. A flag that leaves open whether the
# job waits, runs or is over (UPDATE_DB, EXPEDITING) is COMPLETING to us: neither, ask again.
STATES: dict[str, TaskState] = {
    "PENDING": _T.PENDING,
    "CONFIGURING": _T.PENDING,  # nodes are booting; nothing of ours runs yet
    "POWER_UP_NODE": _T.PENDING,
    "REQUEUED": _T.PENDING,
    "REQUEUE_FED": _T.PENDING,
    "RESV_DEL_HOLD": _T.HELD,
    "REQUEUE_HOLD": _T.HELD,
    "SPECIAL_EXIT": _T.HELD,
    "RUNNING": _T.RUNNING,
    "RESIZING": _T.RUNNING,
    "SIGNALING": _T.RUNNING,
    "EXPEDITING": _T.COMPLETING,
    "UPDATE_DB": _T.COMPLETING,
    "SUSPENDED": _T.SUSPENDED,
    "STOPPED": _T.SUSPENDED,
    "COMPLETING": _T.COMPLETING,
    "STAGE_OUT": _T.COMPLETING,
    "COMPLETED": _T.COMPLETED,
    "FAILED": _T.FAILED,
    "CANCELLED": _T.CANCELLED,
    "REVOKED": _T.CANCELLED,
    "PREEMPTED": _T.PREEMPTED,
    "TIMEOUT": _T.TIMEOUT,
    "DEADLINE": _T.TIMEOUT,
    "NODE_FAIL": _T.NODE_FAIL,
    "BOOT_FAIL": _T.NODE_FAIL,
    "OUT_OF_MEMORY": _T.OUT_OF_MEMORY,
    "LAUNCH_FAILED": _T.LAUNCH_FAILED,
    "RECONFIG_FAIL": _T.LAUNCH_FAILED,
}

# Flags on a job that the controller may still requeue: over for accounting's last record of a job
# that has left the queue, undecided while the queue lists it. Closing the task on the flag alone
# would hand the job over a second time.
UNDECIDED_IN_QUEUE = frozenset({"LAUNCH_FAILED", "RECONFIG_FAIL"})

DELAY_REASONS = frozenset({"BeginTime"})
# Holds of Slurm's own making, after launches that failed on a node: nobody wanted them.
RELEASED_BY_RULE = frozenset({"JobHoldMaxRequeue", "launch failed requeued held"})
HELD_REASONS = RELEASED_BY_RULE | {
    "JobHeldUser",
    "JobHeldAdmin",
    "job requeued in held state",  # `scontrol requeuehold`
}

_JOB_ID = re.compile(r"[1-9][0-9]{0,9}")
_INDEX = re.compile(r"[0-9]{1,9}")
_PARSABLE = re.compile(r"([1-9][0-9]{0,9})(?:;[A-Za-z0-9_.-]+)?\n?")
_EXIT = re.compile(r"([0-9]{1,3}):([0-9]{1,3})")
# Per node (n) or CPU (c) before Slurm 21.08; then the number is not the whole job's.
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)([KMGT]?)")
_UNITS = {"": 2.0**-20, "K": 2.0**-10, "M": 1.0, "G": 2.0**10, "T": 2.0**20}
_BY = re.compile(r"CANCELLED by ([0-9]+)")


class Garbled(ValueError):
    """An answer of Slurm does not have the shape that was asked for; it is not evidence."""


@dataclass(frozen=True, slots=True)
class Marks:
    """Separator and row end of one call; nobody can have put them into a name before."""

    separator: str
    end: str

    @staticmethod
    def draw() -> Marks:
        """Return marks that no earlier text can contain."""
        nonce = secrets.token_hex(8)
        return Marks(separator=f"~{nonce}~", end=f"~{nonce}!")


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueRow:
    """One task in the queue (`squeue -r`)."""

    array_id: str  # of the array; the job id for a job that is no array
    index: int | None
    state: TaskState | None  # None: a word that is not in `STATES`
    word: str
    reason: str
    nodes: str
    submitted: str  # ISO 8601 in our time zone; of a requeued task: when it was requeued
    name: str
    comment: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountRow:
    """One record of accounting; a requeued task has several."""

    array_id: str
    index: int | None
    state: TaskState | None
    word: str
    exit_code: int | None
    submitted: str  # ISO 8601 without zone: order only
    by_uid: int | None  # who cancelled it, where accounting says so
    name: str
    nodes: str = ""
    out_of_memory: bool = False  # it, or one of its steps


QUEUE_FIELDS = ("%F", "%K", "%T", "%r", "%N", "%V", "%j", "%k")
ACCOUNT_FIELDS = (
    "JobID",
    "State",
    "ExitCode",
    "Submit",
    "NodeList",
    "MaxRSS",
    "ReqMem",
    "JobName",  # the last one: it may hold anything
)
# A step that was killed at its limit may have been measured a moment before.
NEAR_THE_LIMIT = 0.95


def queue_format(marks: Marks) -> str:
    """Return the value of `squeue -o`."""
    return marks.separator.join(QUEUE_FIELDS) + marks.end


def parse_queue(text: str, marks: Marks) -> tuple[QueueRow, ...]:
    """Return the rows of a complete `squeue` listing. Raises `Garbled`."""
    *framed, rest = text.split(marks.end)
    if rest.strip():
        raise Garbled(f"squeue: text that is no row: {_quote(rest)}")
    return tuple(_queue_row(row.removeprefix("\n"), marks) for row in framed)


def _queue_row(text: str, marks: Marks) -> QueueRow:
    fields = text.split(marks.separator)
    if len(fields) != len(QUEUE_FIELDS):
        raise Garbled(f"squeue: a row of {len(fields)} fields: {_quote(text)}")
    return _understood(*fields)


@lru_cache(maxsize=32_768)  # from look to look most rows stay as they are
def _understood(*fields: str) -> QueueRow:
    array_id, index, word, reason, nodes, submitted, name, comment = fields
    if not _JOB_ID.fullmatch(array_id):
        raise Garbled(f"squeue: not a job id: {_quote(array_id)}")
    return QueueRow(
        array_id=array_id,
        index=_index(index),
        state=_queue_state(word, reason),
        word=word,
        reason="" if reason == "None" else _printable(reason),
        nodes=_printable(nodes),
        submitted=_printable(submitted),
        name=name,
        comment=comment,
    )


def _index(text: str) -> int | None:
    if text == "N/A":
        return None
    if not _INDEX.fullmatch(text):
        raise Garbled(f"not an array index: {_quote(text)}")
    return int(text)


def _queue_state(word: str, reason: str) -> TaskState | None:
    state = TaskState.COMPLETING if word in UNDECIDED_IN_QUEUE else STATES.get(word)
    if state is TaskState.PENDING and reason in DELAY_REASONS:
        return TaskState.DELAYED
    if state is TaskState.PENDING and reason in HELD_REASONS:
        return TaskState.HELD
    return state


def parse_accounts(text: str, marks: Marks) -> tuple[AccountRow, ...]:
    """Return the records of `sacct -P --delimiter`, in its order. Raises `Garbled`.

    Steps follow their job and only tell whether memory was used up: with cgroups a step is
    OUT_OF_MEMORY while its job has FAILED with the script's exit code; with OverMemoryKill the
    step is "CANCELLED by 0", and only its MaxRSS tells (measured). A job name is the last field and
    may hold newlines; a line without separators continues it.
    """
    if text and not text.endswith("\n"):
        raise Garbled("sacct: the last row is not whole")
    rows: list[list[str]] = []
    for line in text.split("\n")[:-1]:
        fields = line.split(marks.separator)
        if len(fields) == len(ACCOUNT_FIELDS):
            rows.append(fields)
        elif len(fields) == 1 and rows:
            rows[-1][-1] += "\n" + line
        else:
            raise Garbled(f"sacct: a row of {len(fields)} fields: {_quote(line)}")
    found: list[AccountRow] = []
    asked = ""  # memory of the job whose steps follow
    for fields in rows:
        job_id, memory = fields[0], dict(zip(ACCOUNT_FIELDS, fields, strict=True))
        if "." not in job_id:
            asked = memory["ReqMem"]
            found += _account_rows(fields)
        elif _step_out_of_memory(memory["State"], memory["MaxRSS"], asked):
            steps_of = set(expand_job_id(job_id.partition(".")[0]))
            found = _mark_last(found, steps_of)
    return tuple(found)


def _mark_last(rows: list[AccountRow], tasks: set[tuple[str, int | None]]) -> list[AccountRow]:
    """Mark the newest record of the task that a step belongs to."""
    for place in range(len(rows) - 1, -1, -1):
        if (rows[place].array_id, rows[place].index) in tasks:
            rows[place] = replace(rows[place], out_of_memory=True)
            break
    return rows


def _step_out_of_memory(state: str, used: str, asked: str) -> bool:
    if state == "OUT_OF_MEMORY":
        return True
    if not state.startswith(("CANCELLED", "FAILED")):
        return False
    resident, limit = _megabytes(used), _megabytes(asked)
    return resident is not None and bool(limit) and resident >= NEAR_THE_LIMIT * (limit or 0)


def _megabytes(text: str) -> float | None:
    match = _SIZE.fullmatch(text)
    return float(match[1]) * _UNITS[match[2]] if match else None


def _account_rows(fields: Sequence[str]) -> list[AccountRow]:
    job_id, state, exit_code, submitted, nodes, _, _, name = fields
    by = _BY.fullmatch(state)
    word = "CANCELLED" if by else state
    code = _EXIT.fullmatch(exit_code)
    return [
        AccountRow(
            array_id=array_id,
            index=index,
            state=STATES.get(word),
            word=word,
            exit_code=int(code[1]) if code and code[2] == "0" else None,
            submitted=submitted,
            by_uid=int(by[1]) if by else None,
            name=name,
            nodes="" if nodes == "None assigned" else _printable(nodes),
            out_of_memory=word == "OUT_OF_MEMORY",
        )
        for array_id, index in expand_job_id(job_id)
    ]


def expand_job_id(text: str) -> list[tuple[str, int | None]]:
    """Return `(array id, index)` of `12`, `12_3` or `12_[0,3-7,20-40:5%2]`. Raises `Garbled`.

    `12+1` (part of a heterogeneous job) is never ours; neither has it tasks: no entries.
    """
    array_id, bar, rest = text.partition("_")
    if re.fullmatch(r"[1-9][0-9]{0,9}\+[0-9]+", text):
        return []
    if not _JOB_ID.fullmatch(array_id):
        raise Garbled(f"not a job id: {_quote(text)}")
    if not bar:
        return [(array_id, None)]
    inner = re.fullmatch(r"\[([0-9,:-]+)(?:%[0-9]+)?\]", rest)
    if inner is None:
        return [(array_id, _index(rest))]
    return [(array_id, index) for index in expand_ranges(inner[1])]


MAX_TASKS = 4_000_000  # above Slurm's own limit on MaxArraySize


def expand_ranges(text: str) -> list[int]:
    """Return the indices of `0,3-7,20-40:5`. Raises `Garbled`, also for absurdly many.

    Slurm writes evenly spaced indices with a step, whatever way they were submitted.
    """
    indices: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"([0-9]{1,9})(?:-([0-9]{1,9})(?::([1-9][0-9]{0,8}))?)?", part)
        if match is None:
            raise Garbled(f"not an array range: {_quote(text)}")
        first, last, step = int(match[1]), int(match[2] or match[1]), int(match[3] or 1)
        if last < first or len(indices) + (last - first) // step >= MAX_TASKS:
            raise Garbled(f"not an array range: {_quote(text)}")
        indices.extend(range(first, last + 1, step))
    return indices


def compress_ranges(indices: Sequence[int]) -> str:
    """Return `0,3-7` for indices in any order; the inverse of `expand_ranges`."""
    parts: list[str] = []
    ordered = sorted(set(indices))
    start = 0
    for position, index in enumerate(ordered):
        if position + 1 == len(ordered) or ordered[position + 1] != index + 1:
            first = ordered[start]
            parts.append(str(first) if first == index else f"{first}-{index}")
            start = position + 1
    return ",".join(parts)


def parse_submitted(text: str) -> str | None:
    """Return the job id of `sbatch --parsable`, None unless it is all that was printed."""
    match = _PARSABLE.fullmatch(text)
    return match[1] if match else None


def _printable(text: str) -> str:
    if len(text) <= 200 and text.isprintable():
        return text
    return "".join(c if c.isprintable() else "?" for c in text)[:200]


def _quote(text: str) -> str:
    """Return a text for a message: one line, short, nothing that moves a cursor."""
    return ascii(text[:80])
