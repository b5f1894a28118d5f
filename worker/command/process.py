"""A command as a process group that does not outlive its runner."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from worker.failures import Misconfigured

_PR_SET_PDEATHSIG = 1


class CommandProcess:
    """One rank's process, the leader of a group of its own."""

    def __init__(self, argv: Sequence[str], *, env: Mapping[str, str], cwd: Path) -> None:
        """Start it. Raises `Misconfigured` when the program cannot be started."""
        self._runner = os.getpid()
        self._libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
        try:
            self._process = subprocess.Popen(
                argv,
                env=dict(env),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                process_group=0,
                preexec_fn=self._before_exec,  # noqa: PLW1509 - the runner has one thread
            )
        except OSError as error:
            raise Misconfigured(
                f"command.argv[0] {argv[0]!r} cannot be started: {error.strerror}; name a program"
                " on PATH (site.yaml: setup), an absolute path, or ./NAME of `command.code`"
            ) from error

    def _before_exec(self) -> None:
        """In the child: end with the runner; USR1 and USR2 are for the runner alone.

        Slurm signals every process; a program that knows SIGTERM only would die of the others.
        """
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        if self._libc is not None:
            self._libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
            if os.getppid() != self._runner:
                os._exit(1)

    def poll(self) -> int | None:
        """Return the leader's exit code (negative: by that signal), None while it runs.

        Before its number can be used again, what is left of its group is killed: nothing of an
        attempt may go on unseen.
        """
        if self._process.returncode is not None:
            return self._process.returncode
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        if os.waitid(os.P_PID, self._process.pid, flags) is None:
            return None
        self._send(signal.SIGKILL)
        return self._process.wait()

    def terminate(self) -> None:
        """Give the group SIGTERM: the notice."""
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        """End the group; nothing happens when it has ended."""
        self._send(signal.SIGKILL)

    def _send(self, number: int) -> None:
        if self._process.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)
