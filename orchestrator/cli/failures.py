"""From exceptions to an exit code and a message of at most one screen.

Every message names the thing and the fix. Problems of a matrix are shown all together, with
file, line and column. A traceback is printed only with --debug.
"""

from __future__ import annotations

import errno
import sqlite3
import sys
import traceback
from collections.abc import Mapping
from typing import Any

from orchestrator.cli.exits import Exit, Stop
from orchestrator.cli.streams import say, show_document
from orchestrator.views import text

_PROBLEM_LIMIT = 12  # two lines each: one screen
_SYSTEM_FIXES: Mapping[int, str] = {
    errno.ENOSPC: "free some space on that file system; nothing was lost",
    errno.EDQUOT: "your quota is used up; free some space; nothing was lost",
    errno.EACCES: "check owner and mode; orch doctor says more",
    errno.EPERM: "check owner and mode; orch doctor says more",
    errno.ENOENT: "check the path",
    errno.EISDIR: "name a file, not a directory",
    errno.EROFS: "the file system is read-only; set ORCH_HOME to a writable place",
}


def stop_of(error: BaseException) -> Stop:
    """Return what to tell the user about any exception that leaves a verb."""
    if isinstance(error, Stop):
        return error
    return (
        _of_usage(error)
        or _of_domain(error)
        or _of_system(error)
        or Stop(
            Exit.FAILED,
            f"unexpected {type(error).__name__}: {error}",
            fix="a bug in orch: run the command again with --debug and report the traceback",
            kind="bug",
        )
    )


def _of_usage(error: BaseException) -> Stop | None:
    from typer import Abort
    from typer._click.exceptions import ClickException, UsageError

    if isinstance(error, Abort):
        return Stop(Exit.INTERRUPTED, "interrupted")
    if isinstance(error, UsageError):
        path = error.ctx.command_path if error.ctx else "orch"
        return Stop(Exit.USAGE, error.format_message(), fix=f"see: {path} --help", kind="usage")
    if isinstance(error, ClickException):
        return Stop(Exit.USAGE, error.format_message())
    return None


def _of_domain(error: BaseException) -> Stop | None:
    from jobs.errors import MatrixInvalid
    from jobs.snapshot import CodeRefused

    if isinstance(error, CodeRefused):
        return Stop(Exit.USAGE, str(error), fix=error.fix)
    if isinstance(error, MatrixInvalid):
        problems = [_problem(problem) for problem in error.problems]
        return Stop(
            Exit.USAGE,
            f"{text.count(len(problems), 'problem')} in the matrix; nothing was changed",
            kind="invalid_matrix",
            problems=problems,
        )
    from orchestrator.instance import StateRefused

    if isinstance(error, StateRefused):
        return Stop(Exit.FAILED, str(error), fix=error.fix, kind="state_refused")
    for kind, code, fix in _conditions():
        if isinstance(error, kind):
            return Stop(code, str(error), fix=fix)
    return None


def _conditions() -> tuple[tuple[type[Exception], Exit, str], ...]:
    """Return what the domain's exceptions mean here: their own words, a code and a fix."""
    from durable.locks import Locked
    from jobs.contract.records import BadRecord
    from orchestrator.database import LeaseLost, NewerSchema
    from orchestrator.reading import NotFound
    from orchestrator.service import NotRunning, WishPending

    wait = "wait for it, or end that process; the lock frees itself, nothing needs rm"
    return (
        (Locked, Exit.LOCKED, wait),
        (LeaseLost, Exit.LOCKED, "orch status names the holder"),
        (WishPending, Exit.LOCKED, "orch status names the holder; end it if it hangs"),
        (NotFound, Exit.NOT_FOUND, "orch status lists what there is"),
        (NotRunning, Exit.FAILED, "orch status lists the running jobs"),
        (NewerSchema, Exit.FAILED, "upgrade this orch"),
        (BadRecord, Exit.FAILED, "orch doctor checks the state directory"),
    )


def _problem(problem: Any) -> dict[str, Any]:
    return {
        "file": str(problem.file),
        "line": problem.line,
        "column": problem.column,
        "key": problem.key,
        "message": problem.message,
        "fix": problem.fix,
    }


def _of_system(error: BaseException) -> Stop | None:
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return Stop(
            Exit.NOT_FOUND if isinstance(error, FileNotFoundError) else Exit.FAILED,
            f"{where}{error.strerror or error}",
            fix=_SYSTEM_FIXES.get(error.errno or 0, ""),
        )
    if isinstance(error, sqlite3.Error):
        return Stop(
            Exit.FAILED,
            f"the database of the state directory: {error}",
            fix="orch doctor checks it",
        )
    return None


def report(stop: Stop, *, json_wanted: bool) -> None:
    """Print the failure: for people on stderr, and with --json as a document on stdout."""
    for line, style in message_lines(stop):
        say(line, style)
    if json_wanted:
        from orchestrator.views.documents import error_document

        show_document(
            error_document(
                kind=stop.kind,
                message=stop.message,
                exit_code=int(stop.code),
                fix=stop.fix,
                problems=stop.problems,
            )
        )


def message_lines(stop: Stop) -> list[tuple[str, str]]:
    """Return the lines for people, each with its style."""
    lines: list[tuple[str, str]] = []
    for problem in stop.problems[:_PROBLEM_LIMIT]:
        place = f"{problem['file']}:{problem['line']}:{problem['column']}"
        key = f" {problem['key']}:" if problem["key"] else ""
        lines.append((text.clean(f"{place}:{key} {problem['message']}"), ""))
        if problem["fix"]:
            lines.append((text.clean(f"    fix: {problem['fix']}"), "green"))
    hidden = len(stop.problems) - _PROBLEM_LIMIT
    if hidden > 0:
        lines.append((f"… and {text.count(hidden, 'more problem')}; --json lists all", "dim"))
    paragraphs = [text.clean_line(line) for line in stop.message.splitlines()] or [""]
    lines.append((f"orch: {paragraphs[0]}", "bold red"))
    lines += [(line, "") for line in paragraphs[1:]]
    if stop.fix:
        lines.append((text.clean(f"    fix: {stop.fix}"), "green"))
    return lines


def print_traceback(error: BaseException) -> None:
    """Print the traceback on stderr (--debug)."""
    traceback.print_exception(error, file=sys.stderr)
