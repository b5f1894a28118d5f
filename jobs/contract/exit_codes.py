"""Exit codes of a worker (sysexits), the only words a process can say when it leaves."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What a rank, its launcher and the batch script leave with."""

    RESULT = 0  # result.json is published and valid
    EXCEPTION = 1  # an exception; the exit record has its traceback
    AGAIN = 75  # EX_TEMPFAIL: state is saved (or was never begun); run me again
    CONFIGURATION = 78  # EX_CONFIG: no retry can help


# A rank killed by SIGTERM before its handler stood: nothing was lost, so it counts as AGAIN.
KILLED_BY_TERM = 143
AGAIN_CODES = frozenset({ExitCode.AGAIN, KILLED_BY_TERM})
