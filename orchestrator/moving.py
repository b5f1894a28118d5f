"""`orch rebuild --moved`: a directory that moved under live tasks is taken as it is now.

Tasks at a scheduler hold paths to the old place, where they can neither read nor publish
anything. They are ended, and their jobs are due again from here; no attempt is charged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from sqlite3 import Row

from durable.clock import Clock
from durable.faults import hit
from jobs.contract.paths import StateDir
from jobs.contract.records import Overrides
from jobs.states import JobState
from orchestrator.database import Database
from orchestrator.instance import (
    StateRefused,
    checked,
    place_of,
    publish_instance,
    read_instance,
)
from orchestrator.lease import WriterLock
from orchestrator.schedulers.base import Scheduler, TaskKey
from orchestrator.settling import settle_all
from orchestrator.store import Store

_WORDS = "the state directory was moved: its task pointed to the old place"


def adopt_here(
    state: StateDir,
    database: Database,
    clock: Clock,
    scheduler_named: Callable[[str], Scheduler | None],
) -> list[str]:
    """End live tasks, free their jobs, and record the present place; return what happened.

    Raises `durable.locks.Locked`; `StateRefused` for a copy or an older database, and while a
    submission or a task cannot be settled: nothing is freed that may live on.
    """
    lock = WriterLock(state, verb="rebuild")
    lock.acquire()
    try:
        known = read_instance(state)
        mark = replace(database.mark(), live=False)  # a copy or an older database still raises
        instance, moved_from = checked(state, mark, new_id="")
        if known is None or moved_from is None:
            return [f"{state.path} was not moved"]
        epoch = database.take_lease(instance.id)
        store = Store(database, clock)
        lines = _settle(store, clock, scheduler_named, epoch)
        _end(store.live_tasks(), scheduler_named)
        hit("moved.tasks_ended")
        lines += _free(store, moved_from, str(place_of(state).path), epoch)
        hit("moved.jobs_freed")
        recorded = replace(instance, lease=epoch, journal=database.mark().journal)
        publish_instance(state, recorded, durable=True)
        return lines
    finally:
        lock.release()


def _settle(
    store: Store, clock: Clock, named: Callable[[str], Scheduler | None], epoch: int
) -> list[str]:
    lines = settle_all(store, named, clock, lease_epoch=epoch)
    waiting = len(store.unsettled())
    if waiting:
        raise StateRefused(
            f"{waiting} submissions may be at a scheduler that has not shown them yet;"
            f" {'; '.join(lines[:3])}",
            fix="orch rebuild --moved again in a minute or two",
        )
    return lines


def _end(rows: Sequence[Row], named: Callable[[str], Scheduler | None]) -> None:
    """Ask each scheduler to end its tasks. Raises `StateRefused` if one is not ended."""
    keys: dict[str, dict[TaskKey, None]] = {}
    for row in rows:
        key = TaskKey.of(row["token"], row["scheduler_id"], row["idx"], pack=row["pack"]).allocation
        keys.setdefault(row["scheduler"], {})[key] = None
    for name, asked in keys.items():
        scheduler = named(name)
        problems = (
            [f"no access to {name} here"]
            if scheduler is None
            else [why for why in scheduler.cancel(list(asked)).values() if why]
        )
        if problems:
            raise StateRefused(
                f"{len(problems)} tasks could not be ended: {problems[0]}",
                fix="orch rebuild --moved again when the scheduler answers",
            )


def _free(store: Store, moved_from: str, here: str, epoch: int) -> list[str]:
    rows = store.live_tasks()
    with store.writing(epoch):
        for row in rows:
            store.close_task(row["task"])
            state = JobState(row["state"])
            if state in (JobState.QUEUED, JobState.RUNNING, JobState.SUBMITTED):
                overrides = Overrides.model_validate_json(row["overrides"])
                store.set_again(row["id"], due_at=0.0, overrides=overrides)
                store.move(row["id"], JobState.RETRYING, reason=_WORDS, cause=_WORDS)
        for stop in store.stops_open():
            store.stop_done(stop["id"])
        ended = f"{len(rows)} tasks ended"
        store.event(
            "moved", cause=f"it was at {moved_from}", decision=f"adopted at {here}; {ended}"
        )
    return [f"moved from {moved_from}: {ended}, their jobs are due again"]
