"""What readers see: rows from the store, in a handful of queries whatever the number of jobs."""

from __future__ import annotations

import difflib
import json
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from durable.clock import Clock
from jobs.contract.paths import StateDir
from jobs.states import JobState
from orchestrator.database import Database
from orchestrator.heartbeat import Heartbeat, read_heartbeat
from orchestrator.rows import EventRow, ExclusionRow, JobRow, ResultRow, Tally
from orchestrator.waiting_reasons import WaitingReasons

MIN_PREFIX = 4
_STATES = {state.value: state for state in JobState}
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
        ids = ids or self._of_cell(selector)
        if not ids:
            raise NotFound(self._no_such(selector))
        return ids

    def _of_cell(self, cell: str) -> frozenset[str]:
        """Return the job of a name as it stands in a listing of one matrix, without the matrix."""
        rows = self._database.rows("jobs_of_cell", {"cell": cell})
        names = sorted({row["name"] for row in rows})
        if len(names) > 1:
            raise NotFound(f"{cell!r} is in several matrices: say {' or '.join(names[:5])}")
        return frozenset(row["id"] for row in rows)

    def select_one(self, selector: str) -> str:
        """Return the id of the one job that is meant. Raises `NotFound` for none or several."""
        ids = self.select(selector) or frozenset()
        if len(ids) > 1:
            some = ", ".join(sorted(ids)[:5])
            raise NotFound(f"{selector!r} means {len(ids)} jobs: give the id of one ({some} …)")
        return next(iter(ids))

    def select_all(self, selectors: Sequence[str]) -> frozenset[str]:
        """Return the ids that any of several selectors means. Raises `NotFound`."""
        return frozenset().union(*(self.select(selector) or () for selector in selectors))

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
        return self.rows_of(self.select(selector))

    def rows_of(self, ids: Collection[str] | None) -> list[JobRow]:
        """Return the jobs with these ids (None: all), in the order of submission."""
        if ids is None:
            return list(self.each())
        values = {"ids": json.dumps(list(ids))}
        found = self._database.rows("job_rows_of", values)
        running = sum(row["state"] == JobState.RUNNING for row in found)
        newer = self._heartbeats(found) if 0 < running <= FRESH_ROWS else {}
        now, matrices = self._clock.wall(), _matrices(self._database.rows("matrices_of", values))
        waits = WaitingReasons.read(self._database)
        return [
            _job_row(row, matrices.get(row["id"], ()), newer.get(row["id"]), now, waits)
            for row in found
        ]

    def each(self) -> Iterator[JobRow]:
        """Yield all jobs, in the order of submission, without keeping them in memory.

        Writers wait until the last one is taken.
        """
        now, matrices = self._clock.wall(), _matrices(self._database.rows("matrices_of_jobs"))
        waits = WaitingReasons.read(self._database)
        fresh = 0 < self.tally().counts.get(JobState.RUNNING.value, 0) <= FRESH_ROWS
        for row in self._database.each("job_rows"):
            running = fresh and row["state"] == JobState.RUNNING
            newer = self._heartbeats([row]).get(row["id"]) if running else None
            yield _job_row(row, matrices.get(row["id"], ()), newer, now, waits)

    def tally(self) -> Tally:
        """Return counts and sums over all jobs, in milliseconds whatever their number."""
        rows = [tuple(row) for row in self._database.rows("job_counts_by_state")]
        return Tally(
            counts={state: number for state, number, _, _ in rows},
            preemptions=sum(preemptions for _, _, preemptions, _ in rows),
            lost_steps=sum(lost for _, _, _, lost in rows),
        )

    def first_of(self, states: Iterable[JobState], *, limit: int) -> list[JobRow]:
        """Return at most `limit` jobs: those of the first state, then of the next, and so on."""
        ids: list[str] = []
        for state in states:
            values = {"state": state, "limit": limit - len(ids)}
            ids += [row["id"] for row in self._database.rows("first_jobs_of_state", values)]
        place = {job: number for number, job in enumerate(ids)}
        return sorted(self.rows_of(ids), key=lambda row: place[row.id])

    def few_running(self) -> frozenset[str]:
        """Return the running jobs, or none where they are too many to read their directories."""
        values = {"state": JobState.RUNNING, "limit": FRESH_ROWS + 1}
        ids = self._ids("first_jobs_of_state", "id", values)
        return ids if len(ids) <= FRESH_ROWS else frozenset()

    def reporting(self, *, limit: int) -> tuple[list[JobRow], int]:
        """Return the first jobs that have something to report, and how many there are."""
        ids = self._ids("jobs_with_reports", "id", {"limit": limit})
        count = self._database.one("jobs_with_reports_count")
        return self.rows_of(ids), int(count[0]) if count else 0

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
        matrices = _matrices(self._database.rows("matrices_of_jobs"))
        return [
            _result_row(row, matrices.get(row["id"], ()), specs[row["id"]], axes) for row in found
        ]

    def exclusions(self) -> list[ExclusionRow]:
        """Return the nodes that tasks keep off now, by name."""
        rows = [ExclusionRow(**dict(row)) for row in self._database.rows("exclusions")]
        return [row for row in rows if row.until > self._clock.wall()]

    def events(self, selector: str | None) -> list[EventRow]:
        """Return the journal, of all or of one job, oldest first. Raises `NotFound`."""
        if selector is None:
            rows = self._database.rows("events_all")
        else:
            rows = self._database.rows("events_of", {"job": self.select_one(selector)})
        return [EventRow(**dict(row)) for row in rows]


def _matrices(rows: Iterable[sqlite3.Row]) -> dict[str, tuple[str, ...]]:
    """Return, for each job, the names of its matrices, oldest first."""
    found: dict[str, tuple[str, ...]] = {}
    alone: dict[str, tuple[str, ...]] = {}  # one tuple for all jobs of a matrix
    for job, name in rows:
        known = found.get(job)
        if known is None:
            found[job] = alone.setdefault(name, (name,))
        elif name not in known:
            found[job] = (*known, name)
    return found


def _job_row(
    row: sqlite3.Row,
    matrices: tuple[str, ...],
    newer: Heartbeat | None,
    now: float,
    waits: WaitingReasons,
) -> JobRow:
    # Ten thousand of these are one `orch status`: one unpacking instead of twenty look-ups.
    (
        identity, name, state, state_since, reason, step, total_steps, epoch, attempts,
        preemptions, phase, loss, committed_step, lost_steps, reports, heartbeat_at,
        shown_id, index, scheduler, scheduler_id, home,
    ) = row  # fmt: skip
    age = None
    if state == JobState.NEW:
        reason = waits.of(identity, home, reason)
    if state == JobState.RUNNING and heartbeat_at is not None and epoch is not None:
        age = max(0.0, now - (newer.written_at if newer else heartbeat_at))
    if shown_id is None and scheduler_id is not None:
        shown_id = f"{scheduler_id}_{index}"
    said = () if reports == "[]" else tuple(json.loads(reports))
    return JobRow(
        id=identity,
        name=name,
        matrices=matrices,
        state=_STATES[state],
        step=newer.step if newer else step,
        total_steps=newer.total_steps if newer else total_steps,
        epoch=epoch,
        attempts=attempts,
        preemptions=preemptions,
        scheduler=scheduler,
        scheduler_id=None if shown_id is None else str(shown_id),
        reason=reason,
        phase=newer.phase if newer else phase,
        loss=newer.loss if newer else loss,
        committed_step=newer.committed_step if newer else committed_step,
        lost_steps=lost_steps,
        reports=newer.reports if newer and newer.reports else said,
        heartbeat_age_seconds=age,
        state_since=state_since,
        stuck=identity in waits.stuck,
    )


def _result_row(
    row: sqlite3.Row,
    matrices: tuple[str, ...],
    settings: Mapping[str, object],
    axes: Sequence[str],
) -> ResultRow:
    record = json.loads(row["record"]) if row["record"] is not None else {}
    return ResultRow(
        id=row["id"],
        name=row["name"],
        matrices=matrices,
        state=JobState(row["state"]),
        attempts=row["attempts"],
        preemptions=row["preemptions"],
        exact=record.get("exact"),
        weights_digest=record.get("weights_digest"),
        metrics={split: _numbers(named) for split, named in record.get("metrics", {}).items()},
        steps=record.get("steps"),
        trainable_parameters=record.get("trainable_parameters"),
        axes={key: settings.get(key) for key in axes},
        settings=settings,
    )


def _numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return the metrics of a split; those of groups in it (tasks, categories) as dotted names."""
    return {
        name: value
        for name, value in _flat(metrics).items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


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
