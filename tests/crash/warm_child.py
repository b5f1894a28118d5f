"""A process that has imported what is needed and forks one child per case, to be killed.

A plain child costs half a second of imports; a fork costs milliseconds, so that every fault
point can be tried with every action. Single-threaded on purpose: forking is then safe.

As a program it reads requests, one line of JSON each, from stdin and answers on stdout.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from types import TracebackType
from typing import Any

from durable import faults

KILLED = -signal.SIGKILL
FAILED = 3  # the function raised an OSError and the process lives: what errno faults must give


def run(function: str, arguments: dict[str, Any], environment: dict[str, str]) -> int:
    """Call `module:function(**arguments)`; return the exit code."""
    os.environ.update(environment)
    faults.reset()
    module, _, name = function.partition(":")
    try:
        getattr(importlib.import_module(module), name)(**arguments)
    except OSError as error:
        with suppress(OSError):  # stderr may lie on the very disk that is full
            print(error, file=sys.stderr)
        return FAILED
    return 0


def fork(function: str, arguments: dict[str, Any], environment: dict[str, str]) -> int:
    """Run it in a child; return its exit code, -N for signal N."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = run(function, arguments, environment)
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            sys.stderr.flush()
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


class WarmChild:
    """The parent's end: `call` runs a function in a fresh fork and returns its exit code."""

    def __init__(self, *modules: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.warm_child", *modules],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def call(self, function: str, *, environment: dict[str, str], **arguments: Any) -> int:
        """Return the exit code of `module:function(**arguments)`, -N for signal N."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request = {"function": function, "arguments": arguments, "environment": environment}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def __enter__(self) -> WarmChild:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)
        assert self._process.stdout is not None
        self._process.stdout.close()


def main() -> None:
    """Serve requests until stdin ends."""
    for module in sys.argv[1:]:
        importlib.import_module(module)
    for line in sys.stdin:
        print(fork(**json.loads(line)), flush=True)


if __name__ == "__main__":
    main()
