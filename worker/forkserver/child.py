"""The forked child: becomes what a cold `python -P -m worker` would be, and runs its function."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import random
import signal
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from durable import faults

_INTERRUPTED = 130


def become_rank(
    *,
    callable_name: str,
    argv: Sequence[str],
    env: Mapping[str, str],
    cwd: str,
    output: str,
    record: Callable[[], Path],
) -> int:
    """Run `module:function`(argv) under the request's environment; return the exit code."""
    os.setsid()
    _default_signals()
    _redirect(output)
    code = 1
    try:
        os.chdir(cwd)
        os.environ.clear()
        os.environ.update(env)
        sys.argv = ["worker", *argv]
        _fresh_process()
        module, _, function = callable_name.partition(":")
        code = _exit_code(getattr(importlib.import_module(module), function)(list(argv)))
    except SystemExit as stop:
        code = _exit_code(stop.code)
    except KeyboardInterrupt:
        code = _INTERRUPTED
    except BaseException:  # noqa: BLE001 - the interpreter's own top level would print and leave
        traceback.print_exc()
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    with contextlib.suppress(OSError):
        record().write_text(str(code))
    return code


def _exit_code(value: object) -> int:
    """Return the exit code of a return value or of SystemExit, as the interpreter does."""
    if value is None:
        return 0
    if isinstance(value, int):
        return int(value) & 0xFF
    print(value, file=sys.stderr)  # noqa: T201 - what sys.exit("text") does
    return 1


def _default_signals() -> None:
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        with contextlib.suppress(OSError, ValueError):
            signal.signal(number, signal.SIG_DFL)
    # As Python itself starts:
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _redirect(output: str) -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for source, target in ((null, 0), (file, 1), (file, 2)):
        os.dup2(source, target)
    os.close(null)
    os.close(file)


def _fresh_process() -> None:
    """Undo what a cold process would not share with its siblings: unseeded generators differ."""
    faults.reset()
    random.seed()
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.default_generator.seed()
        threads = os.environ.get("OMP_NUM_THREADS", "")
        available = len(os.sched_getaffinity(0))
        torch.set_num_threads(int(threads) if threads.isdecimal() and int(threads) else available)
