"""What a command's exit code means, and how its failure is put on record. Pure but for the log."""

from __future__ import annotations

import hashlib
import os
import re
import signal
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from jobs.contract.exit_codes import ExitCode
from jobs.contract.records import ErrorRecord
from worker.failures import MAX_TRACEBACK

_TAIL = 256 << 10
_NOTICES = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
_HEAD = "Traceback (most recent call last):"
_FRAME = re.compile(r'^\s+File "([^"]+)", line \d+, in (.+)$', re.MULTILINE)
_LAST = re.compile(r"^([A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Exit|Warning|\w))(?:: (.*))?$")
_NUMBERS = re.compile(r"0x[0-9a-fA-F]+|\d+(\.\d+)?")


class Left(StrEnum):
    """How a command left."""

    DONE = "done"  # 0, and nobody had asked it to stop
    AGAIN = "again"  # saved, or stopped with nothing to save: run me again
    CONFIGURATION = "configuration"
    KILLED = "killed"  # SIGKILL, not from us
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the runner had done to the command before it left."""

    notice: bool = False
    killed: bool = False


def meaning(code: int, asked: Asked) -> Left:
    """Return what an exit code (negative: by that signal) means. Pure.

    0 after a notice is no success: many programs leave with 0 when they are told to stop.
    """
    number = -code if code < 0 else code - 128 if 128 < code < 160 else 0  # a shell says 128 + n
    if code == ExitCode.AGAIN or number in _NOTICES or (asked.killed and number == signal.SIGKILL):
        return Left.AGAIN
    if code == 0:
        return Left.AGAIN if asked.notice else Left.DONE
    if code == ExitCode.CONFIGURATION:
        return Left.CONFIGURATION
    return Left.KILLED if number == signal.SIGKILL else Left.FAILED


def failure(code: int, log: Path, *, begin: int) -> ErrorRecord:
    """Return the record of a failed command; its digest is equal for equal failures.

    `begin`: size of the log before the command started. Python's last traceback is read from it;
    for other programs its last line speaks.
    """
    text = _tail(log, begin)
    found = _last_traceback(text)
    how = f"killed by {_signal_name(-code)}" if code < 0 else f"left with {code}"
    if found is not None:
        kind, message, trace = found
        frames = [f"{Path(file).name}:{name}" for file, name in _FRAME.findall(trace)]
        message = f"{message} ({how})" if message else how
    else:
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        last = lines[-1][:300] if lines else ""
        kind, trace, frames = "CommandFailed", text[-2000:], []
        message = f"{how}: {last}" if last else how
    parts = [*frames, kind, _NUMBERS.sub("#", message)]
    return ErrorRecord(
        type=kind,
        message=message[:2000],
        digest="sha256:" + hashlib.sha256("\n".join(parts).encode()).hexdigest(),
        traceback=trace[-MAX_TRACEBACK:],
    )


def _tail(log: Path, begin: int) -> str:
    try:
        with log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(begin, size - _TAIL))
            return file.read(_TAIL).decode(errors="replace")
    except OSError:
        return ""


def _last_traceback(text: str) -> tuple[str, str, str] | None:
    start = text.rfind(_HEAD)
    if start < 0:
        return None
    lines = text[start:].splitlines()
    for number, line in enumerate(lines[1:], start=1):
        if line.startswith((" ", "\t")) or not line:
            continue
        match = _LAST.match(line)
        if match is None:
            return None
        trace = "\n".join(lines[: number + 1])
        return match[1].rpartition(".")[2], (match[2] or "")[:1000], trace
    return None


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
