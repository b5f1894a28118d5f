"""The two questions to Slurm: what is in the queue, what does accounting remember.

Both answer completely or raise `NoAnswer`; neither ever returns a part.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

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
_DISABLED = "Slurm accounting storage is disabled"


class NoAnswer(Exception):
    """Slurm could not be asked, or its answer cannot be believed; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accounts:
    """What accounting remembers. `kept` False: this cluster keeps no accounts at all."""

    rows: tuple[AccountRow, ...] = ()
    kept: bool = True


def read_queue(*, name: str | None = None) -> tuple[QueueRow, ...]:
    """Return every task of this user in the queue, also those that ended a moment ago."""
    marks = Marks.draw()
    command = ["squeue", "--noheader", "--array", "--all", "--states=all"]
    command += [f"--user={os.getuid()}", f"--format={queue_format(marks)}"]
    if name is not None:
        command.append(f"--name={name}")
    answer = run(command, seconds=QUERY_SECONDS)
    if isinstance(answer, Broken):
        raise NoAnswer(answer.reason)
    # rc 0 with an error message and no rows has been seen from a controller that was down
    if answer.code != 0 or "error:" in answer.err:
        raise NoAnswer(_words("squeue", answer))
    try:
        return parse_queue(answer.out, marks)
    except Garbled as error:
        raise NoAnswer(str(error)) from error


def read_accounts(*, array_ids: Sequence[str] = (), name: str | None = None) -> Accounts:
    """Return all records, oldest first, of these jobs or of this job name."""
    marks = Marks.draw()
    command = ["sacct", "--allocations", "--parsable2", "--noheader", "--duplicates"]
    command += [f"--starttime={ACCOUNT_SINCE}", f"--delimiter={marks.separator}"]
    command += [f"--format={','.join(ACCOUNT_FIELDS)}"]
    if array_ids:
        command.append(f"--jobs={','.join(array_ids)}")
    if name is not None:
        command += [f"--name={name}", f"--user={os.getuid()}"]
    answer = run(command, seconds=QUERY_SECONDS)
    if isinstance(answer, Broken):
        raise NoAnswer(answer.reason)
    if answer.code != 0 and _DISABLED in answer.out + answer.err:
        return Accounts(kept=False)
    if answer.code != 0 or "error:" in answer.err:
        raise NoAnswer(_words("sacct", answer))
    try:
        return Accounts(rows=parse_accounts(answer.out, marks))
    except Garbled as error:
        raise NoAnswer(str(error)) from error


def _words(command: str, answer: Ran) -> str:
    lines = [line.strip() for line in (answer.err or answer.out).splitlines() if line.strip()]
    said = lines[-1][:200].encode("ascii", "replace").decode() if lines else "nothing"
    return f"{command} left with {answer.code} and said: {said}"
