"""The JSON documents that scripts rely on (docs/reference/json.md).

Fields may be added, never renamed or removed while `SCHEMA_VERSION` stays. Texts are escaped
to ASCII by the encoder, so that no control or bidi character reaches a terminal raw; values
that JSON does not know (NaN, infinities) become null.
"""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from jobs.states import JobState
from orchestrator.rows import JobRow, Plan, ResultRow, SubmitReport, Watcher, WatcherJobSeen

if TYPE_CHECKING:
    from jobs.errors import Problem
    from orchestrator.checkpoint_space import CheckpointSpace
    from orchestrator.ledger import Account, Ledger
    from orchestrator.observation import Seen
    from orchestrator.tables.jobs import Fidelity

SCHEMA_VERSION = 1
_JOBS_AT_ONCE = 500
LEDGER_PARTS = ("queued", "starting", "useful", "replayed", "saving", "wasted")
NO_LEDGERS: Mapping[str, Ledger] = MappingProxyType({})

Document = dict[str, Any]


def encode(document: Document) -> str:
    """Return a document as JSON text, ASCII only."""
    return _encode(document)


def _encode(value: Any) -> str:
    return json.dumps(value, ensure_ascii=True, allow_nan=False)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def plan_document(
    plan: Plan,
    *,
    backend: Mapping[str, Any] | None = None,
    space: CheckpointSpace | None = None,
    missing: Sequence[Problem] = (),
) -> Document:
    """Return `orch submit --dry-run --json`; `missing`: sources that are not on this machine."""
    return {
        "schema_version": SCHEMA_VERSION,
        "dry_run": True,
        **_plan_fields(plan),
        "checkpoints": dataclasses.asdict(space) if space else None,
        "missing": [
            {"key": p.key, "source": p.absent, "file": p.file, "line": p.line, "fix": p.fix}
            for p in missing
        ],
        **({"backend": dict(backend)} if backend is not None else {}),
    }


def submit_document(
    report: SubmitReport, *, watcher: Watcher, space: CheckpointSpace | None = None
) -> Document:
    """Return `orch submit --json`: the plan, and what the scheduler said."""
    return {
        "schema_version": SCHEMA_VERSION,
        "dry_run": False,
        **_plan_fields(report.plan),
        "checkpoints": dataclasses.asdict(space) if space else None,
        "submitted": report.submitted,
        "waiting": report.waiting,
        "refused": list(report.refused),
        "unreachable": report.unreachable,
        "watcher": _watcher(watcher),
    }


def _plan_fields(plan: Plan) -> Document:
    return {
        "cells": plan.cells,
        "unique_jobs": plan.unique_jobs,
        "new": plan.new,
        "unchanged": plan.unchanged,
        "again": plan.again,
        "removed": [
            {"id": job.id, "name": job.name, "state": job.state.value, "matrix": job.matrix}
            for job in plan.removed
        ],
        "kept": plan.kept,
        "estimate": dataclasses.asdict(plan.estimate) if plan.estimate else None,
        "jobs": [
            {
                "id": spec.id,
                "name": spec.name,
                "new": spec.id in plan.new_ids,
                "spec": spec.model_dump(mode="json"),
            }
            for spec in plan.jobs
        ],
    }


def _watcher(watcher: Watcher) -> Document:
    return {
        "alive": watcher.alive,
        "host": watcher.host,
        "pid": watcher.pid,
        "last_tick": watcher.last_tick,
        "job": None if watcher.job is None else _watcher_job(watcher.job),
    }


def _watcher_job(job: WatcherJobSeen) -> Document:
    return {
        "id": job.task,
        "state": job.state,
        "reason": job.reason,
        "live": job.live,
        "seen_at": job.seen_at,
    }


def state_counts(states: Iterable[JobState]) -> dict[str, int]:
    """Return how many jobs are in each state that occurs."""
    counts: dict[str, int] = {}
    for state in states:
        counts[state.value] = counts.get(state.value, 0) + 1
    return counts


def status_document(
    rows: Sequence[JobRow],
    watcher: Watcher,
    seen: Sequence[Seen] = (),
    *,
    ledgers: Mapping[str, Ledger] = NO_LEDGERS,
    now: Callable[[], float] = time.time,
) -> Document:
    """Return `orch status --json`; all jobs, however many. `seen`: the oldest look first."""
    goodput = Goodput(ledgers)
    jobs = [goodput.job(row) for row in rows]
    return {
        "schema_version": SCHEMA_VERSION,
        "watcher": _watcher(watcher),
        "observation": _observation(seen[0], now()) if seen else None,
        "counts": state_counts(row.state for row in rows),
        "goodput": goodput.sums(),
        "jobs": jobs,
    }


def status_text(
    rows: Iterable[JobRow],
    watcher: Watcher,
    seen: Sequence[Seen] = (),
    *,
    ledgers: Mapping[str, Ledger] = NO_LEDGERS,
) -> Iterator[bytes]:
    """Return `orch status --json` in pieces, for as many jobs as there are.

    All rows are taken before the first piece is given: they may come from a file that is locked
    meanwhile, and whoever reads the pieces may be slow. Encoded, they need the least memory.
    """
    counts: dict[str, int] = {}
    pieces: list[bytes] = []
    goodput = Goodput(ledgers)
    remaining = iter(rows)
    while some := list(islice(remaining, _JOBS_AT_ONCE)):
        for row in some:
            counts[row.state.value] = counts.get(row.state.value, 0) + 1
        pieces.append(_encode([goodput.job(row) for row in some])[1:-1].encode())
    known: Document = {"counts": counts, "goodput": goodput.sums(), "jobs": []}
    head = encode({**status_document([], watcher, seen), **known})
    yield head.removesuffix("]}").encode()
    for number, piece in enumerate(pieces):
        yield b", " + piece if number else piece
    yield b"]}\n"


class Goodput:
    """Jobs as they are in `orch status --json`, with what their time went into, summed up."""

    def __init__(self, ledgers: Mapping[str, Ledger]) -> None:
        self._ledgers = ledgers
        self._all: list[Ledger] = []
        self._by_matrix: dict[str, list[Ledger]] = {}

    def job(self, row: JobRow) -> Document:
        """Return one job; `goodput` is null for one that never ran."""
        ledger = self._ledgers.get(row.id)
        if ledger is not None:
            self._all.append(ledger)
            for matrix in row.matrices:  # a job that two matrices name counts in both
                self._by_matrix.setdefault(matrix, []).append(ledger)
        return {**_job(row), "goodput": None if ledger is None else ledger_fields(ledger)}

    def sums(self) -> Document | None:
        """Return the total of all jobs so far and of each matrix; None: none has run."""
        if not self._all:
            return None
        from orchestrator.ledger import together

        return {
            "total": ledger_fields(together(self._all)),
            "matrices": {
                name: ledger_fields(together(some)) for name, some in self._by_matrix.items()
            },
        }


def ledger_fields(ledger: Ledger) -> Document:
    """Return what time went into, in seconds (docs/goodput.md)."""
    return {
        **account_fields(ledger.total),
        "replayed_steps": ledger.replayed_steps,
        "lost": round(ledger.lost, 3),
        "eligible": round(ledger.eligible, 3),
        "ettr": ledger.ettr,
    }


def account_fields(account: Account) -> Document:
    """Return the parts of an account."""
    return {part: round(getattr(account, part), 3) for part in (*LEDGER_PARTS, "suspended")}


def _observation(seen: Seen, now: float) -> Document:
    age = None if seen.taken_at is None else max(0.0, now - seen.taken_at)
    return {
        "scheduler": seen.scheduler,
        "age_seconds": age,
        "taken_at": seen.taken_at,
        "unreachable": seen.unreachable,
    }


def _job(row: JobRow) -> Document:
    return {
        "id": row.id,
        "name": row.name,
        "matrices": row.matrices,
        "state": row.state.value,
        "step": row.step,
        "total_steps": row.total_steps,
        "epoch": row.epoch,
        "attempts": row.attempts,
        "preemptions": row.preemptions,
        "scheduler": row.scheduler,
        "scheduler_id": row.scheduler_id,
        "reason": row.reason,
        "phase": row.phase,
        "loss": _finite(row.loss),
        "committed_step": row.committed_step,
        "lost_steps": row.lost_steps,
        "reports": row.reports,
        "heartbeat_age_seconds": row.heartbeat_age_seconds,
        "state_since": row.state_since,
        "stuck": row.stuck,
    }


def results_document(
    rows: Sequence[ResultRow], ran: Mapping[str, Fidelity] | None = None
) -> Document:
    """Return `orch results --json`; `ran`: where the jobs ran, by id, where that is asked for."""
    jobs = [_result(row) for row in rows]
    for job in jobs if ran is not None else ():
        there = (ran or {})[job["id"]]
        job |= {"world_sizes": there.world_sizes, "hosts": there.hosts}
    return {"schema_version": SCHEMA_VERSION, "jobs": jobs}


def _result(row: ResultRow) -> Document:
    return {
        "id": row.id,
        "name": row.name,
        "matrices": row.matrices,
        "state": row.state.value,
        "attempts": row.attempts,
        "preemptions": row.preemptions,
        "exact": row.exact,
        "weights_digest": row.weights_digest,
        "metrics": {
            split: {name: _finite(value) for name, value in values.items()}
            for split, values in row.metrics.items()
        },
        "steps": row.steps,
        "trainable_parameters": row.trainable_parameters,
        "axes": dict(row.axes),
        "settings": dict(row.settings),
    }


def outcome_document(verb: str, **fields: Any) -> Document:
    """Return what a verb that changes something did (cancel, preempt, tick, watch)."""
    return {"schema_version": SCHEMA_VERSION, "verb": verb, **fields}


def error_document(
    *, kind: str, message: str, exit_code: int, fix: str = "", problems: Collection[Document] = ()
) -> Document:
    """Return what `--json` prints instead of its document when a verb fails."""
    return {
        "schema_version": SCHEMA_VERSION,
        "error": {
            "kind": kind,
            "message": message,
            "fix": fix,
            "exit_code": exit_code,
            "problems": list(problems),
        },
    }
