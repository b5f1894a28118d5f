"""The server's loop: single-threaded, one connection per child, exit codes by pidfd."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import struct
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from durable.processes import ProcessIdentity
from worker.forkserver.child import become_rank
from worker.forkserver.protocol import (
    IMPORT_TIME,
    child_record,
    new_socket,
    receive,
    send,
    socket_path,
)

REQUEST_TIMEOUT_SECONDS = 5.0
_LIFELINE = 0  # standard input; its end means that the owner is gone


@dataclass(frozen=True, slots=True, kw_only=True)
class _Running:
    pid: int
    pidfd: int
    record: Path
    line: socket.socket
    tied: bool  # ends with the client that asked for it


class Server:
    """Forks children on request; ends them when its owner is gone."""

    def __init__(self, directory: Path, *, allowed: frozenset[str]) -> None:
        self._directory = directory
        self._allowed = allowed
        self._selector = selectors.DefaultSelector()
        self._listener = new_socket()
        self._running: dict[int, _Running] = {}  # by pidfd, and by the line of a tied child

    def __enter__(self) -> Server:
        (self._directory / "children").mkdir(mode=0o700, exist_ok=True)
        before = os.umask(0o177)
        try:
            self._listener.bind(str(socket_path(self._directory)))
        finally:
            os.umask(before)
        self._listener.listen(64)
        self._listener.set_inheritable(False)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(_LIFELINE, selectors.EVENT_READ)
        return self

    def __exit__(self, *_: object) -> None:
        for child in {child.pidfd: child for child in self._running.values()}.values():
            signal.pidfd_send_signal(child.pidfd, signal.SIGKILL)
            self._reap(child)
        self._listener.close()
        socket_path(self._directory).unlink(missing_ok=True)

    def serve(self) -> None:
        """Serve until the lifeline ends."""
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._listener:
                    self._accept()
                elif key.fd == _LIFELINE:
                    if not os.read(_LIFELINE, 1024):
                        return
                elif self._running.get(key.fd) is key.data:  # else: reaped in this very round
                    child = self._running[key.fd]
                    if key.fd != child.pidfd:  # its client closed the line, or died
                        signal.pidfd_send_signal(child.pidfd, signal.SIGKILL)
                    self._reap(child)

    def _accept(self) -> None:
        line, _ = self._listener.accept()
        try:
            line.settimeout(REQUEST_TIMEOUT_SECONDS)
            request = receive(line) if _same_user(line) else None
            if request is None:
                line.close()
                return
            problem = self._problem(request)
            if problem is not None:
                send(line, {"refused": problem})
                line.close()
                return
            self._fork(request, line)
        except (OSError, ValueError) as error:
            print(f"request dropped: {error}", file=sys.stderr, flush=True)  # noqa: T201 - its log
            line.close()

    def _problem(self, request: dict[str, Any]) -> str | None:
        """Return why the request is refused, or None."""
        if request.get("callable") not in self._allowed:
            return (
                f"{request.get('callable')!r} is not allowed; the server was started for"
                f" {', '.join(sorted(self._allowed))}"
            )
        env, argv = request.get("env"), request.get("argv")
        if not isinstance(env, dict) or not isinstance(argv, list):
            return "a request needs `env` (object) and `argv` (list)"
        if not all(isinstance(text, str) for text in (*env, *env.values(), *argv)):
            return "`env` and `argv` hold text only"
        if not all(isinstance(request.get(key), str) for key in ("cwd", "output")):
            return "a request needs `cwd` and `output`"
        for name in IMPORT_TIME:
            if name in env and env[name] != os.environ.get(name):
                return (
                    f"{name}={env[name]} cannot take effect: it is read while libraries are"
                    f" imported, and the server has {os.environ.get(name)!r}; give it to"
                    " ForkServer.start(env=…)"
                )
        return None

    def _fork(self, request: dict[str, Any], line: socket.socket) -> None:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        pid = os.fork()
        if pid == 0:
            self._run_child(request, line)
        identity = ProcessIdentity.of(pid)
        start = identity.start if identity else 0
        record = child_record(self._directory, pid, start)
        tied = bool(request.get("tied"))
        child = _Running(pid=pid, pidfd=os.pidfd_open(pid), record=record, line=line, tied=tied)
        for descriptor in (child.pidfd, line.fileno()) if tied else (child.pidfd,):
            self._running[descriptor] = child
            self._selector.register(descriptor, selectors.EVENT_READ, child)
        record.touch(mode=0o600)
        boot_id = identity.boot_id if identity else ""
        with contextlib.suppress(OSError):
            send(line, {"pid": pid, "start": start, "boot_id": boot_id})

    def _run_child(self, request: dict[str, Any], line: socket.socket) -> None:
        code = 1
        try:
            for child in {child.pidfd: child for child in self._running.values()}.values():
                os.close(child.pidfd)
                child.line.close()
            line.close()
            self._listener.close()
            self._selector.close()
            identity = ProcessIdentity.current()
            code = become_rank(
                callable_name=request["callable"],
                argv=request["argv"],
                env=request["env"],
                cwd=request["cwd"],
                output=request["output"],
                record=lambda: child_record(self._directory, identity.pid, identity.start),
            )
        finally:
            os._exit(code)  # never back into the server's loop

    def _reap(self, child: _Running) -> None:
        _, status = os.waitpid(child.pid, 0)
        for descriptor in (child.pidfd, child.line.fileno()) if child.tied else (child.pidfd,):
            self._selector.unregister(descriptor)
            del self._running[descriptor]
        os.close(child.pidfd)
        with contextlib.suppress(OSError):
            send(child.line, {"exit": os.waitstatus_to_exitcode(status)})
        child.line.close()
        child.record.unlink(missing_ok=True)


def _same_user(line: socket.socket) -> bool:
    size = struct.calcsize("3i")
    _, uid, _ = struct.unpack("3i", line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return bool(uid == os.getuid())
