"""The client's side: start a server, or attach to one, and spawn ranks. Imports no torch."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from durable.processes import ProcessIdentity
from worker.forkserver.protocol import (
    RUN_RANK,
    child_record,
    new_socket,
    receive,
    send,
    socket_path,
)

START_TIMEOUT_SECONDS = 180.0
REPLY_TIMEOUT_SECONDS = 30.0
_POLL_SECONDS = 0.05
# Libraries that start thread pools while they are imported would make a fork unsafe.
_SINGLE_THREADED = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",  # pyarrow's allocator
    "TOKENIZERS_PARALLELISM": "false",
}


class ForkServerDied(RuntimeError):
    """The server did not start, or is gone; the message quotes its log."""


class SpawnRefused(ValueError):
    """The server does not run this request; the message says why and what to change."""


class Child:
    """One forked rank. Exit codes as in subprocess: negative for a signal."""

    def __init__(self, line: socket.socket, identity: ProcessIdentity, directory: Path) -> None:
        self.identity = identity
        self.pid = identity.pid
        self.returncode: int | None = None
        self._line: socket.socket | None = line
        self._record = child_record(directory, identity.pid, identity.start)

    def poll(self) -> int | None:
        """Return the exit code, or None while the child runs. Works without the server too.

        A child that lost its server and left no exit code was killed: -9.
        """
        if self.returncode is None and self._line is not None:
            self._listen(0.0)
        if self.returncode is None and self._line is None and not self.identity.alive():
            self.returncode = self._recorded()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code. Raises `subprocess.TimeoutExpired` after `timeout` seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while self.poll() is None:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                assert timeout is not None
                raise subprocess.TimeoutExpired(f"forked rank {self.pid}", timeout)
            if self._line is None:
                time.sleep(_POLL_SECONDS)
            else:
                self._listen(left)
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal to this very process; nothing happens when it is gone."""
        if self.poll() is None:
            self.identity.signal(number)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send SIGKILL, or another signal."""
        self.send_signal(number)

    def _listen(self, seconds: float | None) -> None:
        assert self._line is not None
        readable, _, _ = select.select([self._line], [], [], seconds)
        if not readable:
            return
        message: dict[str, Any] | None = None
        with contextlib.suppress(OSError, ValueError):
            message = receive(self._line)
        self._line.close()
        self._line = None  # no message: the server died; from here on by identity
        if message is not None:
            self.returncode = int(message["exit"])

    def _recorded(self) -> int:
        try:
            text = self._record.read_text()
            self._record.unlink(missing_ok=True)
        except OSError:
            text = ""
        return int(text) if text else -signal.SIGKILL


class ForkServer:
    """A running server. Made by `start` (owned, ends with `close`) or `attach` (borrowed)."""

    def __init__(
        self, directory: Path, process: subprocess.Popen[bytes] | None, *, tied: bool = False
    ) -> None:
        self._directory = directory
        self._process = process
        self._tied = tied

    @classmethod
    def start(cls, *, env: Mapping[str, str] | None = None, also: Sequence[str] = ()) -> ForkServer:
        """Start a server and wait until it is warm (as long as a cold worker's imports).

        `env`: additions to its environment; `also`: further `module:function` that may be asked
        for besides the worker's. Raises `ForkServerDied`.
        """
        directory = Path(tempfile.mkdtemp(prefix="orch-fork-"))  # mode 0700
        command = [sys.executable, "-P", "-m", "worker.forkserver", str(directory)]
        command += [part for name in also for part in ("--allow", name)]
        full = dict(os.environ) | _SINGLE_THREADED | {"DS_ACCELERATOR": "cpu"} | dict(env or {})
        with (directory / "server.log").open("wb") as log:
            process = subprocess.Popen(
                command,
                env=full,
                cwd=directory,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        server = cls(directory, process)
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], START_TIMEOUT_SECONDS)
        if not ready or process.stdout.readline() != b"ready\n":
            log_text = server.log()[-2000:]
            server.close()
            raise ForkServerDied(f"the fork-server did not start:\n{log_text}")
        return server

    @classmethod
    def attach(cls, socket_file: Path, *, tied: bool = False) -> ForkServer:
        """Use another process's server by its socket; `close` leaves it running.

        `tied`: SIGKILL a child when this client's process ends (a cold rank would share its
        launcher's process group; a forked one cannot).
        """
        return cls(socket_file.parent, None, tied=tied)

    @property
    def socket(self) -> Path:
        """The server's socket, for `attach`."""
        return socket_path(self._directory)

    @property
    def pid(self) -> int | None:
        """The server's pid, for its owner."""
        return self._process.pid if self._process else None

    def log(self) -> str:
        """Return what the server wrote about itself."""
        return (self._directory / "server.log").read_text(errors="replace")

    def spawn(self, argv: Sequence[str], env: Mapping[str, str], output: Path) -> Child:
        """Fork a rank for a cold command line `[python, …, "-m", "worker", argument, …]`.

        `env` is its whole environment (what imports have read already is inherited);
        standard output and error are appended to `output`. Raises `SpawnRefused`,
        `ForkServerDied`.
        """
        command = list(argv)
        at = command.index("-m") if "-m" in command else len(command)
        if command[at + 1 : at + 2] != ["worker"]:
            raise SpawnRefused(f"not a rank's command line (python … -m worker …): {command}")
        return self.run(env, command[at + 2 :], output)

    def run(self, env: Mapping[str, str], argv: Sequence[str], output: Path) -> Child:
        """Fork a rank with the arguments that follow `-m worker`."""
        return self.call(RUN_RANK, argv, env, output)

    def call(self, name: str, argv: Sequence[str], env: Mapping[str, str], output: Path) -> Child:
        """Fork a child that runs `module:function`(argv); its int result is the exit code."""
        line = new_socket()
        line.settimeout(REPLY_TIMEOUT_SECONDS)
        request = {
            "callable": name,
            "argv": list(argv),
            "env": dict(env),
            "cwd": str(Path.cwd()),
            "output": str(output.absolute()),
            "tied": self._tied,
        }
        try:
            line.connect(str(self.socket))
            send(line, request)
            reply = receive(line)
        except OSError as error:
            line.close()
            raise ForkServerDied(f"the fork-server at {self.socket} is gone: {error}") from error
        except ValueError as error:
            line.close()
            raise SpawnRefused(str(error)) from error
        if reply is None or "refused" in reply:
            line.close()
            if reply is None:
                raise ForkServerDied(f"the fork-server at {self.socket} closed the line")
            raise SpawnRefused(str(reply["refused"]))
        identity = ProcessIdentity(str(reply["boot_id"]), int(reply["pid"]), int(reply["start"]))
        return Child(line, identity, self._directory)

    def close(self) -> None:
        """End an owned server together with its children, also when it had died; idempotent."""
        if self._process is None:
            return
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        try:
            self._process.wait(REPLY_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None
        for record in (self._directory / "children").glob("*.*"):
            pid, start = record.name.split(".")
            identity = ProcessIdentity.of(int(pid))
            if identity is not None and identity.start == int(start):
                identity.signal(signal.SIGKILL)
        shutil.rmtree(self._directory, ignore_errors=True)

    def __enter__(self) -> ForkServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
