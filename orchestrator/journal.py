"""The journal: what happened, why, and what was decided; appended to, never edited."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from durable.clock import Clock
from orchestrator.database import Database


class Journal:
    """The events of one database, written under a lease."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self.lease = 0  # of the transaction that is under way

    def append(
        self, kind: str, about: Sequence[Mapping[str, str | None]], *, cause: str, decision: str
    ) -> None:
        """Append the same event about several jobs or submissions ("job", "token")."""
        common = {
            "at": self._clock.wall(),
            "lease": self.lease,
            "job": None,
            "token": None,
            "kind": kind,
            "cause": cause,
            "decision": decision,
        }
        self._database.run_many("event_add", [{**common, **one} for one in about])
