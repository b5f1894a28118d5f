"""What a forked child finds, told from inside it: functions that the fork-server may run."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path


def report(argv: list[str]) -> int:
    """Write what this process is to the file argv[0]."""
    handlers = {number.name: signal.getsignal(number) for number in signal.Signals}
    facts = {
        "argv": argv,
        "sys_argv": sys.argv,
        "pid": os.getpid(),
        "leads_session": os.getsid(0) == os.getpid(),
        "cwd": str(Path.cwd()),
        "env": dict(os.environ),
        "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        "handled": sorted(
            name
            for name, handler in handlers.items()
            if handler not in (signal.SIG_DFL, None)
            and name not in ("SIGINT", "SIGPIPE", "SIGXFSZ")
        ),
        "sigint": handlers["SIGINT"] is signal.default_int_handler,
        "sigpipe": handlers["SIGPIPE"] == signal.SIG_IGN,
        "threads": len(list(Path("/proc/self/task").iterdir())),
        "open_files": sorted(str(entry.readlink()) for entry in _descriptors()),
        "stdin": sys.stdin.read(),
        "umask": os.umask(0o22),
        "warm": "torch" in sys.modules,
    }
    print("on standard output")
    print("on standard error", file=sys.stderr)
    Path(argv[0]).write_text(json.dumps(facts))
    return 0


def _descriptors() -> list[Path]:
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            entry.readlink()
        except OSError:  # the directory's own descriptor is gone by now
            continue
        found.append(entry)
    return found


def leave(argv: list[str]) -> object:
    """Leave in the way that argv[0] names."""
    match argv:
        case ["return", code]:
            return int(code)
        case ["none"]:
            return None
        case ["exit", code]:
            sys.exit(int(code))
        case ["exit_text"]:
            sys.exit("goodbye")
        case ["raise"]:
            raise ValueError("as it happens")
        case ["interrupt"]:
            raise KeyboardInterrupt
        case ["kill", number]:
            os.kill(os.getpid(), int(number))
            time.sleep(60)
    raise AssertionError(argv)


def loop(argv: list[str]) -> int:
    """Create the file argv[0], then wait for SIGTERM (leave with 75) or for the file to go."""
    stopped = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
    Path(argv[0]).touch()
    while Path(argv[0]).exists():
        if stopped:
            return 75
        time.sleep(0.01)
    return 7


def generators(argv: list[str]) -> int:
    """Write the first numbers of each global generator to the file argv[0]."""
    import random

    import numpy as np
    import torch

    Path(argv[0]).write_text(
        json.dumps(
            {
                "torch": torch.rand(4).tolist(),
                "seed": torch.initial_seed(),
                "python": random.random(),
                "numpy": float(np.random.rand()),
                "threads": torch.get_num_threads(),
            }
        )
    )
    return 0
