"""Signal handlers for the seconds before training: leave with 75 at once.

Imported and installed before anything heavy. A SIGTERM during the imports (8 s of torch,
transformers, DeepSpeed) would otherwise kill the process with 143, and a batch script that does
not know better would call that a failure. Nothing is lost by leaving: no step was taken since
the last checkpoint. `worker.preemption` replaces these handlers when there is something to save.

Only the standard library, and little of it: this runs first.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import FrameType

NOTICE_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
AGAIN = 75  # jobs.contract.exit_codes.ExitCode.AGAIN, without importing it

_accounts: list[Callable[[], None]] = []


def install() -> None:
    """Leave with 75 at the first TERM, USR1 or USR2 from now on (main thread only)."""
    for number in NOTICE_SIGNALS:
        signal.signal(number, _leave)


def account_with(write_exit_record: Callable[[], None]) -> None:
    """Call this before leaving early: the attempt is claimed, so its end must be on record."""
    _accounts[:] = [write_exit_record]


def _leave(number: int, frame: FrameType | None) -> None:
    for repeated in NOTICE_SIGNALS:  # Slurm repeats SIGTERM; the record is written once
        signal.signal(repeated, signal.SIG_IGN)
    try:
        for write in _accounts:
            write()
    finally:
        # Not sys.exit: inside an import, an exception could be swallowed by somebody's `except`.
        os._exit(AGAIN)
