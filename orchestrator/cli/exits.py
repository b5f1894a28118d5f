"""Exit codes of `orch`, and the condition that a verb raises to leave with one.

The worker's exit codes are another language: `jobs.contract.exit_codes`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Any


class Exit(IntEnum):
    """What `orch` leaves with (docs/reference/exit-codes.md)."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    UNREACHABLE = 4
    LOCKED = 5
    PARTIAL = 6
    TIMED_OUT = 124
    INTERRUPTED = 130


MEANINGS: Mapping[Exit, str] = {
    Exit.OK: "done; with --wait: every job is COMPLETED",
    Exit.FAILED: "the verb failed; with --wait: some job did not complete; doctor: a check failed",
    Exit.USAGE: "wrong usage, or an invalid matrix or site.yaml; nothing was changed",
    Exit.NOT_FOUND: "no such matrix, job, attempt or file",
    Exit.UNREACHABLE: "the scheduler cannot be asked; what was recorded stays and is tried again",
    Exit.LOCKED: "another orch holds the state directory (its host and pid are named)",
    Exit.PARTIAL: "the scheduler accepted some jobs and refused others",
    Exit.TIMED_OUT: "--timeout passed; the jobs go on",
    Exit.INTERRUPTED: "Ctrl-C; orch let go, the jobs go on",
}

# Machine words of the JSON error document.
KINDS: Mapping[Exit, str] = {
    Exit.FAILED: "failed",
    Exit.USAGE: "usage",
    Exit.NOT_FOUND: "not_found",
    Exit.UNREACHABLE: "unreachable",
    Exit.LOCKED: "locked",
    Exit.PARTIAL: "partial",
    Exit.TIMED_OUT: "timed_out",
    Exit.INTERRUPTED: "interrupted",
}


class Stop(Exception):
    """A verb cannot go on: the exit code, what happened, and what to do about it."""

    def __init__(
        self,
        code: Exit,
        message: str,
        *,
        fix: str = "",
        kind: str = "",
        problems: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.fix = fix
        self.kind = kind or KINDS[code]
        self.problems = tuple(dict(problem) for problem in problems)
