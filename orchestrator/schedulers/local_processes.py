"""Processes of the embedded scheduler: who a launcher says it is, and ending all that is marked."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

from durable.processes import ProcessIdentity
from jobs.contract.records import Record

_MAX_ENVIRONMENT = 1 << 20


class LaunchReport(Record):
    """What the launcher says of itself in `launch.NNNNN.json`."""

    identity: dict[str, Any]
    exit_code: int | None = None

    def process(self) -> ProcessIdentity | None:
        """Return who the launcher was."""
        boot_id, pid = self.identity.get("boot_id"), self.identity.get("pid")
        start = self.identity.get("start", self.identity.get("pid_start"))
        if isinstance(boot_id, str) and isinstance(pid, int) and isinstance(start, int):
            return ProcessIdentity(boot_id, pid, start)
        return None


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
