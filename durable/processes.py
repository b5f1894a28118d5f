"""Processes by identity. A pid alone may be a stranger's: the kernel uses numbers again.

Identity = (boot id, pid, start time in clock ticks since boot). Signals go out only after the
identity was checked on a pidfd, so that a reused pid is never signalled.
"""

from __future__ import annotations

import os
import signal as signals
from dataclasses import dataclass
from pathlib import Path

from durable.clock import read_boot_id

_PROC = Path("/proc")
_DEAD_STATES = frozenset("ZXx")  # a zombie has ended; only its exit code is left
_STOPPED_STATES = frozenset("Tt")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stat:
    state: str
    group: int
    session: int
    start: int


def _read_stat(pid: int) -> _Stat | None:
    try:
        text = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field is the command in parentheses and may itself contain any character.
    fields = text[text.rindex(")") + 2 :].split()
    return _Stat(
        state=fields[0], group=int(fields[2]), session=int(fields[3]), start=int(fields[19])
    )


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """One process of one boot, never confused with a later owner of its pid."""

    boot_id: str
    pid: int
    start: int  # clock ticks between boot and the start of the process

    @staticmethod
    def current() -> ProcessIdentity:
        """Return the identity of the calling process."""
        identity = ProcessIdentity.of(os.getpid())
        if identity is None:
            raise OSError("/proc has no entry for this process: mount /proc")
        return identity

    @staticmethod
    def of(pid: int) -> ProcessIdentity | None:
        """Return the identity of the process that has `pid` now, or None (also for zombies)."""
        stat = _read_stat(pid) if pid > 0 else None
        if stat is None or stat.state in _DEAD_STATES:
            return None
        return ProcessIdentity(read_boot_id(), pid, stat.start)

    def alive(self) -> bool:
        """Return whether this very process still runs (stopped counts, a zombie does not)."""
        stat = self._stat()
        return stat is not None and stat.state not in _DEAD_STATES

    def stopped(self) -> bool:
        """Return whether it exists and is stopped (SIGSTOP, a debugger)."""
        stat = self._stat()
        return stat is not None and stat.state in _STOPPED_STATES

    def signal(self, number: int) -> bool:
        """Send a signal to this very process; False when it no longer lives."""
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return False
        try:
            # The pidfd pins whoever has the pid now; if that is us, it stays us.
            if not self.alive():
                return False
            signals.pidfd_send_signal(descriptor, number)
        except ProcessLookupError:
            return False
        finally:
            os.close(descriptor)
        return True

    def signal_group(self, number: int) -> bool:
        """Send a signal to the process group that this process leads.

        False when the leader is gone (an unreaped zombie still holds its number and counts as
        there) or does not lead a group. For a group whose leader is gone, see `members`.
        """
        stat = self._stat()
        if stat is None or stat.group != self.pid:
            return False
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            return False
        return True

    def _stat(self) -> _Stat | None:
        """Return the stat of this very process, or None when it is gone or someone else."""
        if self.boot_id != read_boot_id():
            return None
        stat = _read_stat(self.pid)
        return stat if stat is not None and stat.start == self.start else None


def members(group: int) -> list[ProcessIdentity]:
    """Return the living processes of a process group, by number, whoever they are."""
    boot_id = read_boot_id()
    found = []
    for entry in _PROC.iterdir():
        if not entry.name.isdecimal():
            continue
        stat = _read_stat(int(entry.name))
        if stat is not None and stat.group == group and stat.state not in _DEAD_STATES:
            found.append(ProcessIdentity(boot_id, int(entry.name), stat.start))
    return found
