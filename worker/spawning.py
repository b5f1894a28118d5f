"""How the local launcher starts a rank: cold as a new process, or warm from a fork-server."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from worker.orphans import LAUNCHER

FORKSERVER = "ORCH_FORKSERVER"  # socket of a warm fork-server (tests, rehearsals)


class RankProcess(Protocol):
    """A started rank. Exit codes as in subprocess: negative for a signal."""

    pid: int

    def poll(self) -> int | None:
        """Return the exit code, or None while it runs."""
        ...

    def send_signal(self, number: int) -> None:
        """Send a signal; nothing happens when it has ended."""
        ...


class Spawner(Protocol):
    """Starts ranks."""

    def spawn(self, arguments: Sequence[str], env: Mapping[str, str]) -> RankProcess:
        """Start `python -P -m worker ARGUMENTS` under this whole environment."""
        ...


class ColdSpawner:
    """New interpreters in this process group: who ends the group ends them all."""

    def spawn(self, arguments: Sequence[str], env: Mapping[str, str]) -> RankProcess:
        """Start a rank as a subprocess."""
        command = [sys.executable, "-P", "-m", "worker", *arguments]
        own = dict(env) | {LAUNCHER: str(os.getpid())}
        return subprocess.Popen(command, env=own, stdin=subprocess.DEVNULL)


class WarmSpawner:
    """Ranks forked from a process that has imported everything already."""

    def __init__(self, socket: Path, output: Path) -> None:
        from worker.forkserver import ForkServer

        self._server = ForkServer.attach(socket)
        self._output = output

    def spawn(self, arguments: Sequence[str], env: Mapping[str, str]) -> RankProcess:
        """Fork a rank; what it prints is appended to the launcher's own output file."""
        child: RankProcess = self._server.run(env, arguments, self._output)
        return child


def choose_spawner(env: Mapping[str, str]) -> Spawner:
    """Return the warm spawner where ORCH_FORKSERVER names a socket, else the cold one."""
    socket = env.get(FORKSERVER)
    if not socket:
        return ColdSpawner()
    return WarmSpawner(Path(socket), own_output())


def own_output() -> Path:
    """Return the file that this process's stdout goes to; /dev/null where it is none."""
    target = Path(f"/proc/{os.getpid()}/fd/1").resolve()
    return target if target.is_file() else Path(os.devnull)
