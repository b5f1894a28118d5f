"""A bound on waiting inside collectives, in time that this process was running.

gloo's own time-outs count the time in which a job was suspended: ranks that are continued together
would give each other up at once. So they are set out of reach, and a thread looks at the main
thread instead: where that has used no processor at all for the whole bound, and stands inside torch
or DeepSpeed, it waits for a rank that does not come. Its connections are then closed, which ends
the collective as the death of that rank would. (NCCL's own watchdog stays: decision 0026.)
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from worker.patience import LOOK_SECONDS, Patience

# A waiting thread uses none; one that polls uses ten times this.
IDLE_CPU_SHARE = 0.001
_WAITS_IN = frozenset({"torch", "deepspeed"})
log = logging.getLogger("orch")


class IdleTime:
    """How long a thread has been idle inside a collective, by looks at it. Pure."""

    def __init__(self, bound: float, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._bound, self._monotonic = bound, monotonic
        self._patience: Patience | None = None
        self._cpu, self._at = 0.0, float("-inf")

    def look(self, *, cpu: float, inside: bool) -> bool:
        """Take in the thread's processor seconds and place; tell whether the bound has passed."""
        now = self._monotonic()
        idle = inside and cpu - self._cpu <= IDLE_CPU_SHARE * (now - self._at)
        self._cpu, self._at = cpu, now
        if not idle:
            self._patience = None
            return False
        if self._patience is None:
            self._patience = Patience(self._bound, monotonic=self._monotonic)
        return self._patience.over


def watch_collectives(seconds: float, *, store_port: int | None) -> None:
    """From now on end collectives of the main thread that wait longer than `seconds`.

    Connections with `store_port` at either end are the store's and stay: whoever is left says
    through it how the attempt ends.
    """
    threading.Thread(target=_watch, args=(seconds, store_port), name="silence", daemon=True).start()


def _watch(seconds: float, store_port: int | None) -> None:
    main = threading.main_thread().ident
    assert main is not None
    clock, idle = time.pthread_getcpuclockid(main), IdleTime(seconds)
    while True:
        time.sleep(min(LOOK_SECONDS / 2, seconds / 10))
        if idle.look(cpu=time.clock_gettime(clock), inside=stands_in_collective(main)):
            log.warning("a collective waited for %.0f s: its connections are closed", seconds)
            close_connections(except_port=store_port)
            return


def stands_in_collective(thread: int) -> bool:
    """Tell whether the innermost Python frame of a thread is of torch or DeepSpeed."""
    frame = sys._current_frames().get(thread)
    name = frame.f_globals.get("__name__", "") if frame is not None else ""
    return str(name).partition(".")[0] in _WAITS_IN


def close_connections(*, except_port: int | None) -> int:
    """Shut down every TCP connection of this process but the store's; return how many."""
    closed = 0
    for entry in list(Path("/proc/self/fd").iterdir()):
        try:
            if not str(entry.readlink()).startswith("socket:"):
                continue
            with socket.socket(fileno=os.dup(int(entry.name))) as connection:
                ends = connection.getsockname(), connection.getpeername()
                if connection.family not in (socket.AF_INET, socket.AF_INET6):
                    continue
                if except_port is None or except_port not in (ends[0][1], ends[1][1]):
                    connection.shutdown(socket.SHUT_RDWR)
                    closed += 1
        except OSError:  # not connected, or closed meanwhile
            continue
    return closed
