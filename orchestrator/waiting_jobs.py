"""The jobs that wait to be handed over, as the store knows them.

The database delivers them in their order, and only as many as may go: with 100,000 waiting, a
tick reads as many rows as there is room at the scheduler.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.admission import Admitted, Candidate, InFlightLimits, admit
from orchestrator.database import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """Rows of jobs that may go now, in order, and which limits keep others back."""

    rows: tuple[sqlite3.Row, ...]
    full: Mapping[str, str]


def choose_due(database: Database, *, now: float, max_in_flight: int) -> Chosen:
    """Return the jobs that may go now. `max_in_flight`: the limit over all matrices."""
    in_flight = {row["home"]: row["tasks"] for row in database.rows("in_flight")}
    matrices = {row["name"]: row["max_in_flight"] for row in database.rows("matrix_limits")}
    limits = InFlightLimits(total=max_in_flight, matrices=matrices)
    rows: dict[str, sqlite3.Row] = {}
    candidates: list[Candidate] = []
    for home in [row["home"] for row in database.rows("homes_due")]:
        # One more than may go: it tells whether the limit keeps anybody back.
        limit = limits.room(in_flight, home) + 1
        values = {"home": home, "now": now, "limit": limit}
        for row in database.rows("due_in_order", values):
            rows[row["id"]] = row
            candidates.append(_candidate(row))
    admitted: Admitted = admit(candidates, in_flight, limits)
    return Chosen(rows=tuple(rows[c.id] for c in admitted.go), full=admitted.full)


def remember_full(database: Database, full: Mapping[str, str]) -> None:
    """Keep which limits hold jobs back, for whoever asks why they wait. Inside `writing`."""
    database.run("full_clear", {})
    database.run_many("full_add", [{"home": home, "words": full[home]} for home in full])


def remembered_full(database: Database) -> dict[str, str]:
    """Return which limits held jobs back at the last tick, in words; "": that of all matrices."""
    return {row["home"]: row["words"] for row in database.rows("full_rows")}


def _candidate(row: sqlite3.Row) -> Candidate:
    return Candidate(
        id=row["id"],
        home=row["home"],
        priority=row["priority"],
        begun=bool(row["begun"]),
        block=row["block_first"],
        position=row["position"],
    )
