"""From the rows of live tasks to facts about their jobs.

Most rows are the same at each tick; what was made of them then is used again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache

from jobs.contract.records import Overrides
from jobs.spec import JobSpec
from jobs.states import JobState
from orchestrator.facts import JobFacts, StopFacts, TaskFacts
from orchestrator.schedulers.base import TaskKey, TaskState


class RowFacts:
    """Remembers, for one process, the rows of the last tick and their tasks."""

    def __init__(self, spec_of: Callable[[str], JobSpec]) -> None:
        self._spec_of = spec_of
        self._known: dict[int, tuple[sqlite3.Row, TaskFacts]] = {}

    def of(
        self,
        rows: Sequence[sqlite3.Row],
        *,
        stops: Collection[sqlite3.Row],
        rehearsed: Collection[str],
        heartbeats: Mapping[str, float | None],
    ) -> list[JobFacts]:
        """Return the facts of each row; `heartbeats` are later than the store's, where there."""
        open_stops = {row["job"]: _stop(row) for row in stops}
        known, self._known = self._known, {}
        found = []
        for row in rows:
            job, number = row["id"], row["task"]
            last = known.get(number)
            kept = last if last is not None and last[0] == row else (row, _task(row))
            self._known[number] = kept
            saved = row["heartbeat_at"]
            found.append(
                JobFacts(
                    id=job,
                    name=row["name"],
                    spec=self._spec_of(job),
                    state=JobState(row["state"]),
                    reason=row["reason"],
                    epoch=row["epoch"],
                    sequence=row["sequence"],
                    heartbeat_at=heartbeats.get(job, saved),
                    heartbeat_saved_at=saved,
                    committed_step=row["committed_step"],
                    attempts=row["attempts"],
                    overrides=_overrides(row["overrides"]),
                    ended_epoch=row["ended_epoch"],
                    rehearsed=job in rehearsed,
                    again_wanted=row["again_wanted"],
                    stop=open_stops.get(job),
                    task=kept[1],
                )
            )
        return found


@cache
def _overrides(text: str) -> Overrides:
    return Overrides.model_validate_json(text)


def _task(row: sqlite3.Row) -> TaskFacts:
    key = TaskKey.of(row["token"], row["scheduler_id"], row["idx"], pack=row["pack"])
    return TaskFacts(
        id=row["task"],
        key=key,
        scheduler=row["scheduler"],
        seen=TaskState(row["seen"]) if row["seen"] else None,
        seen_reason=row["seen_reason"],
        shown_id=row["shown_id"],
        nodes=row["nodes"],
        restarts=row["restarts"],
        absent_count=row["absent_count"],
        absent_since=row["absent_since"],
        running_since=row["running_since"],
        release_wanted=bool(row["release_wanted"]),
    )


def _stop(row: sqlite3.Row) -> StopFacts:
    return StopFacts(
        id=row["id"],
        epoch=row["epoch"],
        cause=row["cause"],
        grace_seconds=row["grace_seconds"],
        requested_at=row["requested_at"],
        notified_at=row["notified_at"],
        killed_at=row["killed_at"],
    )
