"""What ends a watcher's pause early, found without asking any scheduler.

A wish in the inbox (one directory listing), or an attempt that has left its exit record: its task
has ended or is being requeued, long before the next look would have told. Records are looked for
in turn, some at each call, so that a matrix of thousands costs a shared filesystem little.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from jobs.contract.paths import StateDir
from orchestrator import requests

STATS_AT_ONCE = 200


class Awakening:
    """Watches the inbox, and the exit records that running attempts have not written yet."""

    def __init__(self, state: StateDir) -> None:
        self._state = state
        self._attempts: Sequence[tuple[str, int]] = ()
        self._next = 0

    def expect(self, attempts: Sequence[tuple[str, int]]) -> None:
        """Await the ends of these (job, epoch): those without an exit record at the last look."""
        self._attempts = attempts

    def is_due(self) -> bool:
        """Return whether something has come that is worth a look now."""
        if requests.pending(self._state):
            return True
        for _ in range(min(STATS_AT_ONCE, len(self._attempts))):
            self._next = (self._next + 1) % len(self._attempts)
            job, epoch = self._attempts[self._next]
            if os.path.lexists(self._state.job(job).attempt(epoch).exit_record(0)):
                return True
        return False
