"""Named fault points: the places where a crash would matter, reachable by name.

`hit("commit.after_rename")` does nothing, at the cost of one comparison, unless ORCH_FAULT says
otherwise. Grammar of ORCH_FAULT: items separated by commas, each

    name [ "[rank=" N "]" ] ":" action [ "@" n [ "+" ] ]
    action = kill | stop | errno=NAME | raise=NAME | sleep=SECONDS

`@n`: at the n-th hit in this process (default 1); `@n+`: at the n-th and all later ones.
ORCH_FAULT_LOG names a file that receives one line per hit, whatever ORCH_FAULT says, so that a
test can prove that a point was reached.
"""

from __future__ import annotations

import builtins
import errno
import os
import re
import signal
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

Action = Literal["kill", "stop", "errno", "raise", "sleep"]
_ACTIONS: dict[str, Action] = {action: action for action in get_args(Action)}
_ITEM = re.compile(
    r"(?P<name>[A-Za-z0-9_.]+)(\[rank=(?P<rank>\d+)\])?:(?P<action>[a-z]+)(=(?P<value>[A-Za-z0-9.]+))?"
    r"(@(?P<nth>[1-9]\d*)(?P<onwards>\+)?)?"
)


class FaultInvalid(ValueError):
    """ORCH_FAULT does not follow the grammar; the message names the item and the grammar."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One item of ORCH_FAULT."""

    name: str
    action: Action
    rank: int | None = None
    number: int = 0  # errno
    error: str = ""  # name of the exception's type
    seconds: float = 0.0
    nth: int = 1
    onwards: bool = False

    def fires(self, count: int) -> bool:
        """Return whether the `count`-th hit (from 1) is this fault's."""
        return count >= self.nth if self.onwards else count == self.nth


@dataclass(slots=True, kw_only=True)
class _Plan:
    faults: Mapping[str, tuple[Fault, ...]]
    log: str | None
    counts: dict[str, int] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)


_UNREAD = object()
_plan: _Plan | object | None = _UNREAD  # None: no faults, no log


def hit(name: str) -> None:
    """Pass the fault point `name`. Raises OSError or ends the process if ORCH_FAULT says so."""
    if _plan is not None:
        _hit(name)


def reset() -> None:
    """Forget counts and read the environment anew at the next hit (tests, forked ranks)."""
    global _plan  # noqa: PLW0603 - one plan per process, as there is one environment
    _plan = _UNREAD


def parse_faults(text: str) -> tuple[Fault, ...]:
    """Return the faults of an ORCH_FAULT value. Raises `FaultInvalid`."""
    return tuple(_parse_item(item.strip()) for item in text.split(",") if item.strip())


def _parse_item(item: str) -> Fault:
    match = _ITEM.fullmatch(item)
    if match is None:
        raise _invalid(item, "it does not match the grammar")
    action, value = _ACTIONS.get(match["action"]), match["value"]
    if action is None:
        raise _invalid(item, f"unknown action {match['action']!r}")
    number, seconds, error = 0, 0.0, ""
    if action == "raise":
        error = value or ""
        if not error.isidentifier():
            raise _invalid(item, f"{value!r} is not the name of an exception")
    elif action == "errno":
        number = getattr(errno, value or "", 0)
        if not number:
            raise _invalid(item, f"{value!r} is not an errno name such as ENOSPC")
    elif action == "sleep":
        try:
            seconds = float(value or "")
        except ValueError:
            raise _invalid(item, f"{value!r} is not a number of seconds") from None
    elif value is not None:
        raise _invalid(item, f"{action} takes no value")
    return Fault(
        name=match["name"],
        action=action,
        rank=int(match["rank"]) if match["rank"] else None,
        number=number,
        error=error,
        seconds=seconds,
        nth=int(match["nth"] or 1),
        onwards=match["onwards"] is not None,
    )


def _invalid(item: str, why: str) -> FaultInvalid:
    return FaultInvalid(
        f"ORCH_FAULT: {item!r}: {why}; write name[rank=N]:ACTION@n with ACTION one of"
        " kill, stop, errno=NAME, raise=NAME, sleep=SECONDS ([rank=N] and @n may be left out)"
    )


def _this_rank() -> int | None:
    for variable in ("ORCH_RANK", "SLURM_PROCID"):
        value = os.environ.get(variable, "")
        if value.isdecimal():
            return int(value)
    return None


def _read_plan() -> _Plan | None:
    rank = _this_rank()
    by_name: dict[str, list[Fault]] = {}
    for fault in parse_faults(os.environ.get("ORCH_FAULT", "")):
        if fault.rank is None or fault.rank == rank:
            by_name.setdefault(fault.name, []).append(fault)
    log = os.environ.get("ORCH_FAULT_LOG") or None
    if not by_name and log is None:
        return None
    return _Plan(faults={name: tuple(faults) for name, faults in by_name.items()}, log=log)


def _hit(name: str) -> None:
    global _plan  # noqa: PLW0603
    if _plan is _UNREAD:
        _plan = _read_plan()
    plan = _plan
    if not isinstance(plan, _Plan):
        return
    with plan.lock:
        count = plan.counts.get(name, 0) + 1
        plan.counts[name] = count
    if plan.log is not None:
        _append_line(plan.log, name)
    for fault in plan.faults.get(name, ()):
        if fault.fires(count):
            _act(fault)


def _append_line(path: str, name: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, name.encode() + b"\n")  # one write: lines of several ranks stay whole
    finally:
        os.close(descriptor)


def _act(fault: Fault) -> None:
    match fault.action:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        case "sleep":
            time.sleep(fault.seconds)
        case "errno":
            raise OSError(fault.number, os.strerror(fault.number), f"fault point {fault.name}")
        case "raise":
            raise _exception(fault.error)(f"fault point {fault.name}")


def _exception(name: str) -> type[Exception]:
    """Return one of Python's own, or a new one of that name: torch's cannot be imported here."""
    known = getattr(builtins, name, None)
    if isinstance(known, type) and issubclass(known, Exception):
        return known
    return type(name, (RuntimeError,), {})
