"""What readers see: rows from the store, in a handful of queries whatever the number of jobs."""

from __future__ import annotations

import difflib
import json
import sqlite3
from collections.abc import Collection, Mapping
from typing import Any

from durable.clock import Clock
from jobs.contract.paths import StateDir
from jobs.states import JobState
from orchestrator.database import Database
from orchestrator.heartbeat import Heartbeat, read_heartbeat
from orchestrator.rows import JobRow, ResultRow

MIN_PREFIX = 4
FRESH_ROWS = 200  # up to so many running jobs, their heartbeat files are read too


class NotFound(LookupError):
    """No job has this name; the message says which names are near."""


class Reading:
    """Read-only questions to the store."""

    def __init__(self, database: Database, state: StateDir, clock: Clock) -> None:
        self._database = database
        self._state = state
        self._clock = clock

    def select(self, selector: str | None) -> frozenset[str] | None:
        """Return the ids that a matrix name, job name or id prefix means; None means all.

        Raises `NotFound`.
        """
        if selector is None:
            return None
        ids = self._ids("jobs_of_matrix", "job", {"name": selector})
        ids = ids or self._ids("jobs_of_name", "id", {"name": selector})
        if not ids and len(selector) >= MIN_PREFIX:
            ids = self._ids("jobs_of_prefix", "id", {"prefix": selector.lower()})
        if not ids:
            raise NotFound(self._no_such(selector))
        return ids

    def select_one(self, selector: str) -> str:
        """Return the id of the one job that is meant. Raises `NotFound` for none or several."""
        ids = self.select(selector) or frozenset()
        if len(ids) > 1:
            some = ", ".join(sorted(ids)[:5])
            raise NotFound(f"{selector!r} means {len(ids)} jobs: give the id of one ({some} …)")
        return next(iter(ids))

    def _ids(self, query: str, column: str, values: Mapping[str, Any]) -> frozenset[str]:
        return frozenset(row[column] for row in self._database.rows(query, values))

    def _no_such(self, selector: str) -> str:
        names = [r[0] for q in ("matrix_names", "job_names") for r in self._database.rows(q)]
        if not names:
            return f"{selector!r}: nothing was submitted to {self._state.path} yet"
        near = difflib.get_close_matches(selector, names[:20_000], n=3)
        hint = f"; near: {', '.join(near)}" if near else ""
        return f"no matrix or job is called {selector!r} in {self._state.path}{hint}"

    def rows(self, selector: str | None) -> list[JobRow]:
        """Return the jobs that are meant, in the order of submission. Raises `NotFound`."""
        ids = self.select(selector)
        found = [r for r in self._database.rows("job_rows") if ids is None or r["id"] in ids]
        running = [row["id"] for row in found if row["state"] == JobState.RUNNING]
        newer = self._heartbeats(found) if 0 < len(running) <= FRESH_ROWS else {}
        now = self._clock.wall()
        return [_job_row(row, newer.get(row["id"]), now) for row in found]

    def _heartbeats(self, rows: Collection[sqlite3.Row]) -> dict[str, Heartbeat]:
        """Return heartbeats newer than the last tick, of the attempt that the store knows."""
        found = {}
        for row in rows:
            if row["state"] == JobState.RUNNING and row["epoch"] is not None:
                attempt = self._state.job(row["id"]).attempt(row["epoch"])
                heartbeat = read_heartbeat(attempt.progress)
                if heartbeat is not None:
                    found[row["id"]] = heartbeat
        return found

    def results(self, selector: str | None) -> list[ResultRow]:
        """Return the results of the jobs that are meant. Raises `NotFound`."""
        ids = self.select(selector)
        found = [r for r in self._database.rows("result_rows") if ids is None or r["id"] in ids]
        specs = {row["id"]: _flat(json.loads(row["spec"])["semantic"]) for row in found}
        axes = _differing(list(specs.values()))
        return [_result_row(row, {a: specs[row["id"]].get(a) for a in axes}) for row in found]


def _job_row(row: sqlite3.Row, newer: Heartbeat | None, now: float) -> JobRow:
    age = None
    if row["state"] == JobState.RUNNING and row["heartbeat_at"] and row["epoch"]:
        age = max(0.0, now - (newer.written_at if newer else row["heartbeat_at"]))
    reports = () if row["reports"] == "[]" else tuple(json.loads(row["reports"]))
    return JobRow(
        id=row["id"],
        name=row["name"],
        matrices=_lines(row["matrices"]),
        state=JobState(row["state"]),
        step=newer.step if newer else row["step"],
        total_steps=row["total_steps"],
        epoch=row["epoch"],
        attempts=row["attempts"],
        preemptions=row["preemptions"],
        scheduler=row["scheduler"],
        scheduler_id=_shown_id(row),
        reason=row["reason"],
        phase=newer.phase if newer else row["phase"],
        loss=newer.loss if newer else row["loss"],
        committed_step=newer.committed_step if newer else row["committed_step"],
        lost_steps=row["lost_steps"],
        reports=newer.reports if newer and newer.reports else reports,
        heartbeat_age_seconds=age,
        state_since=row["state_since"],
    )


def _shown_id(row: sqlite3.Row) -> str | None:
    if row["shown_id"] is not None:
        return str(row["shown_id"])
    return f"{row['scheduler_id']}_{row['idx']}" if row["scheduler_id"] is not None else None


def _result_row(row: sqlite3.Row, axes: Mapping[str, object]) -> ResultRow:
    record = json.loads(row["record"]) if row["record"] is not None else {}
    return ResultRow(
        id=row["id"],
        name=row["name"],
        matrices=_lines(row["matrices"]),
        state=JobState(row["state"]),
        attempts=row["attempts"],
        preemptions=row["preemptions"],
        exact=record.get("exact"),
        weights_digest=record.get("weights_digest"),
        metrics=record.get("metrics", {}),
        steps=record.get("steps"),
        trainable_parameters=record.get("trainable_parameters"),
        axes=axes,
    )


def _lines(text: str | None) -> tuple[str, ...]:
    return tuple(text.split("\n")) if text else ()


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, object]:
    """Return dotted keys and their values."""
    flat: dict[str, object] = {}
    for key, item in value.items():
        if isinstance(item, dict):
            flat |= _flat(item, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = item
    return flat


def _differing(specs: list[dict[str, object]]) -> list[str]:
    """Return the keys in which the jobs differ, in the order of the spec."""
    keys = list(dict.fromkeys(key for spec in specs for key in spec))
    return [key for key in keys if any(spec.get(key) != specs[0].get(key) for spec in specs[1:])]
