"""Processes of the embedded scheduler: who a launcher says it is, and ending all that is marked."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

from durable.oom_counter import OomCounter
from durable.processes import ProcessIdentity
from jobs.contract.records import Record

_MAX_ENVIRONMENT = 1 << 20


class LaunchReport(Record):
    """What the launcher says of itself in `launch.NNNNN.json`."""

    identity: dict[str, Any]
    exit_code: int | None = None
    oom_counter: dict[str, Any] | None = None  # as it was when the launcher began
    killed_ranks: tuple[int, ...] = ()  # that got SIGKILL, and not from the launcher
    oom_kills: int | None = None  # by the kernel meanwhile; None: nobody can tell

    def process(self) -> ProcessIdentity | None:
        """Return who the launcher was."""
        boot_id, pid = self.identity.get("boot_id"), self.identity.get("pid")
        start = self.identity.get("start", self.identity.get("pid_start"))
        if isinstance(boot_id, str) and isinstance(pid, int) and isinstance(start, int):
            return ProcessIdentity(boot_id, pid, start)
        return None

    def killed_by_kernel(self) -> int | None:
        """Return how many processes the kernel killed for want of memory since the launch.

        None: nobody can tell. Asked where the launcher itself could not say it any more.
        """
        said = self.oom_counter or {}
        path, kills = said.get("path"), said.get("kills")
        if not isinstance(path, str) or not isinstance(kills, int):
            return None
        return OomCounter(path=path, kills=kills).since()


def kill_marked(marker: str) -> None:
    """SIGKILL every process that has `NAME=VALUE` in its environment."""
    for descriptor in _pidfds(marker.encode()):
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        os.close(descriptor)


def _pidfds(wanted: bytes) -> list[int]:
    """Return descriptors of the living processes that carry the marker.

    The descriptor is opened before the environment is read, so it cannot come to mean another
    process in between.
    """
    found = []
    for entry in os.scandir("/proc"):
        if not entry.name.isdecimal():
            continue
        try:
            descriptor = os.pidfd_open(int(entry.name))
        except OSError:
            continue
        if wanted in _environment(entry.path):
            found.append(descriptor)
        else:
            os.close(descriptor)
    return found


def _environment(path: str) -> list[bytes]:
    try:
        with Path(path, "environ").open("rb") as file:
            return file.read(_MAX_ENVIRONMENT).split(b"\0")
    except OSError:
        return []
