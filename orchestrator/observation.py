"""The last look at each scheduler, published by whoever ticks, so that others need not look.

observation.json is small, replaced atomically, and only ever shown: nothing is decided from it.
Reading it imports nothing heavy: `orch status` does.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from durable.files import publish_file
from jobs.contract.paths import StateDir
from orchestrator.rows import WatcherJobSeen

if TYPE_CHECKING:
    from orchestrator.schedulers.base import Observation

_MAX_BYTES = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What is known of when a scheduler was looked at; `taken_at` is wall clock seconds."""

    scheduler: str
    taken_at: float | None  # of the last look that it answered; None: it never has
    unreachable: str | None = None  # why the looks since then had no answer
    tasks: int = 0  # asked about


def publish_seen(
    state: StateDir,
    observations: Mapping[str, Observation],
    *,
    watcher_job: WatcherJobSeen | None = None,
) -> None:
    """Write when each scheduler was seen; one that did not answer keeps its last time.

    `watcher_job`: what is known of the watcher job now.
    """
    known = {seen.scheduler: seen for seen in read_seen(state)}
    for name, observation in observations.items():
        before = known.get(name)
        failed = observation.unreachable is not None
        known[name] = Seen(
            scheduler=name,
            taken_at=(before.taken_at if before else None) if failed else observation.taken_at,
            unreachable=observation.unreachable,
            tasks=len(observation.answers),
        )
    _publish(state, known.values(), watcher_job)


def publish_watcher_job(state: StateDir, watcher_job: WatcherJobSeen | None) -> None:
    """Write what is known of the watcher job besides what was seen before; None: there is none."""
    _publish(state, read_seen(state), watcher_job)


def _publish(
    state: StateDir, schedulers: Iterable[Seen], watcher_job: WatcherJobSeen | None
) -> None:
    document = {
        "schema_version": 1,
        "schedulers": {
            seen.scheduler: {
                "taken_at": seen.taken_at,
                "unreachable": seen.unreachable,
                "tasks": seen.tasks,
            }
            for seen in schedulers
        },
        "watcher_job": None if watcher_job is None else asdict(watcher_job),
    }
    publish_file(_path(state), json.dumps(document, sort_keys=True).encode() + b"\n", durable=False)


def read_watcher_job(state: StateDir) -> WatcherJobSeen | None:
    """Return the watcher job as it was last seen; None: there is none, or nobody has looked."""
    try:
        values = _read(state)["watcher_job"]
        return WatcherJobSeen(
            token=str(values["token"]),
            task=str(values["task"]),
            state=str(values["state"]),
            reason=str(values["reason"]),
            live=bool(values["live"]),
            seen_at=float(values["seen_at"]),
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def read_seen(state: StateDir) -> list[Seen]:
    """Return what was published, the least recently seen scheduler first; empty: nothing yet."""
    try:
        schedulers = _read(state)["schedulers"]
        seen = [_seen(name, values) for name, values in schedulers.items()]
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return []
    return sorted(seen, key=lambda one: one.taken_at or 0.0)


def _read(state: StateDir) -> Any:
    with _path(state).open("rb") as file:
        return json.loads(file.read(_MAX_BYTES))


def _seen(name: str, values: Mapping[str, Any]) -> Seen:
    taken_at, unreachable = values["taken_at"], values["unreachable"]
    return Seen(
        scheduler=str(name),
        taken_at=None if taken_at is None else float(taken_at),
        unreachable=None if unreachable is None else str(unreachable),
        tasks=int(values.get("tasks", 0)),
    )


def _path(state: StateDir) -> Path:
    return state.path / "observation.json"
