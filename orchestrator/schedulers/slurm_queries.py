"""The questions to Slurm: what is in the queue, which steps run, what does accounting remember.

Each answers completely or raises `NoAnswer`; none ever returns a part. Measured (`sdiag`): a
`squeue` is two requests to the controller, with `--steps` one; without `--local` each is one more.
`sacct` asks slurmdbd, not the controller.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from orchestrator.schedulers.slurm_commands import Broken, Ran, run
from orchestrator.schedulers.slurm_parse import (
    ACCOUNT_FIELDS,
    AccountRow,
    Garbled,
    Marks,
    QueueRow,
    parse_accounts,
    parse_queue,
    queue_format,
)

QUERY_SECONDS = 30.0
# Accounting keeps rows of re-issued ids for ever; ours are younger than any training.
ACCOUNT_SINCE = "now-365days"
# One argument may have 128 KiB, all of them about 2 MB: ids go in chunks, all in one call.
IDS_IN_ARGUMENT = 10_000
IDS_AT_ONCE = 100_000
_DISABLED = "Slurm accounting storage is disabled"


class NoAnswer(Exception):
    """Slurm could not be asked, or its answer cannot be believed; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What a command said, and the marks that its rows were asked for with."""

    argv: tuple[str, ...]
    marks: Marks
    said: Ran | Broken


Hearing = Callable[[Heard], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Accounts:
    """What accounting remembers. `kept` False: this cluster keeps no accounts at all."""

    rows: tuple[AccountRow, ...] = ()
    kept: bool = True
    by_task: Mapping[tuple[str, int | None], tuple[AccountRow, ...]] = field(
        init=False, repr=False, compare=False
    )  # oldest first

    def __post_init__(self) -> None:
        found: dict[tuple[str, int | None], tuple[AccountRow, ...]] = {}
        for row in sorted(self.rows, key=lambda row: row.submitted):
            key = (row.array_id, row.index)
            found[key] = (*found.get(key, ()), row)
        object.__setattr__(self, "by_task", found)


def read_queue(
    *, seconds: float | None = None, hear: Hearing | None = None
) -> tuple[QueueRow, ...]:
    """Return every task of this user in the queue, also those that ended a moment ago."""
    marks = Marks.draw()
    command = ["squeue", "--local", "--noheader", "--array", "--all", "--states=all"]
    command += [f"--user={os.getuid()}", f"--format={queue_format(marks)}"]
    said = run(command, seconds=seconds or QUERY_SECONDS)
    if hear is not None:
        hear(Heard(argv=tuple(command), marks=marks, said=said))
    return understand_queue(said, marks)


def understand_queue(said: Ran | Broken, marks: Marks) -> tuple[QueueRow, ...]:
    """Return the rows of an answer of squeue. Pure. Raises `NoAnswer`."""
    if isinstance(said, Broken):
        raise NoAnswer(said.reason)
    # rc 0 with an error message and no rows has been seen from a controller that was down
    if said.code != 0 or "error:" in said.err:
        raise NoAnswer(_words("squeue", said))
    try:
        return parse_queue(said.out, marks)
    except Garbled as error:
        raise NoAnswer(str(error)) from error


def read_steps(*, seconds: float | None = None) -> Mapping[str, str]:
    """Return all running steps of this user, e.g. `7_0.0` and `7_0.batch`, with their names."""
    command = ["squeue", "--local", "--noheader", "--steps", f"--user={os.getuid()}"]
    command.append("--format=%i %j")
    said = run(command, seconds=seconds or QUERY_SECONDS)
    if isinstance(said, Broken):
        raise NoAnswer(said.reason)
    if said.code != 0 or "error:" in said.err:
        raise NoAnswer(_words("squeue", said))
    words = (line.split(maxsplit=1) for line in said.out.splitlines())
    return {step: name[0].strip() if name else "" for step, *name in filter(None, words)}


def read_accounts(
    *,
    array_ids: Sequence[str] = (),
    name: str | None = None,
    seconds: float | None = None,
    hear: Hearing | None = None,
) -> Accounts:
    """Return all records of these jobs (at most `IDS_AT_ONCE`) or of this job name."""
    marks = Marks.draw()
    # Steps, too: they alone say that memory was used up.
    command = ["sacct", "--parsable2", "--noheader", "--duplicates"]
    command += [f"--starttime={ACCOUNT_SINCE}", f"--delimiter={marks.separator}"]
    command += [f"--format={','.join(ACCOUNT_FIELDS)}"]
    for start in range(0, len(array_ids), IDS_IN_ARGUMENT):
        command.append(f"--jobs={','.join(array_ids[start : start + IDS_IN_ARGUMENT])}")
    if name is not None:
        command += [f"--name={name}", f"--user={os.getuid()}"]
    said = run(command, seconds=seconds or QUERY_SECONDS)
    if hear is not None:
        hear(Heard(argv=tuple(command), marks=marks, said=said))
    return understand_accounts(said, marks)


def understand_accounts(said: Ran | Broken, marks: Marks) -> Accounts:
    """Return the records in an answer of sacct. Pure. Raises `NoAnswer`."""
    if isinstance(said, Broken):
        raise NoAnswer(said.reason)
    if said.code != 0 and _DISABLED in said.out + said.err:
        return Accounts(kept=False)
    if said.code != 0 or "error:" in said.err:
        raise NoAnswer(_words("sacct", said))
    try:
        return Accounts(rows=parse_accounts(said.out, marks))
    except Garbled as error:
        raise NoAnswer(str(error)) from error


def _words(command: str, answer: Ran) -> str:
    lines = [line.strip() for line in (answer.err or answer.out).splitlines() if line.strip()]
    said = lines[-1][:200].encode("ascii", "replace").decode() if lines else "nothing"
    return f"{command} left with {answer.code} and said: {said}"
