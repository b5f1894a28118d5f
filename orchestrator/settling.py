"""Submissions between intent and id: adopted, or given back, never guessed.

An intent without an id is what a crash leaves; `uncertain` is what a scheduler that timed out
leaves. Both are resolved by searching for the token. A job is handed over again only when
complete searches have not found it for longer than a submission can hide.
"""

from __future__ import annotations

from collections.abc import Callable
from sqlite3 import Row

from durable.clock import Clock
from durable.faults import hit
from orchestrator.facts import Patience
from orchestrator.schedulers.base import Scheduler, TaskKey, Unreachable
from orchestrator.store import Store
from orchestrator.submission import accept, give_back


def patience_of(scheduler: Scheduler) -> Patience:
    """Return how much of this scheduler's silence is evidence."""
    own = getattr(scheduler, "patience", None)
    return own if isinstance(own, Patience) else Patience()


def settle_all(
    store: Store,
    scheduler_named: Callable[[str], Scheduler | None],
    clock: Clock,
    *,
    lease_epoch: int,
) -> list[str]:
    """Try to resolve every unsettled submission; return what happened, for people."""
    happenings = []
    for row in store.unsettled():
        scheduler = scheduler_named(row["scheduler"])
        if scheduler is None:
            happenings.append(f"submission {row['token']}: no access to {row['scheduler']} here")
        else:
            line = _settle(store, row, scheduler, clock, lease_epoch)
            if line:
                happenings.append(line)
    return happenings


def _settle(
    store: Store, row: Row, scheduler: Scheduler, clock: Clock, lease_epoch: int
) -> str | None:
    token = row["token"]
    found = scheduler.find(token)
    hit("settle.found")
    if isinstance(found, Unreachable):
        return f"submission {token}: {scheduler.name} cannot be searched: {found.reason}"
    if found.scheduler_ids:
        adopted, *surplus = found.scheduler_ids
        problem = _cancel_surplus(store, token, surplus, scheduler)
        if problem is not None:
            return f"submission {token}: a surplus copy is not cancelled yet: {problem}"
        hit("settle.surplus_cancelled")
        with store.writing(lease_epoch):
            accept(store, token, adopted, reason="found by its token")
        hit("settle.committed")
        extra = f", {len(surplus)} surplus cancelled" if surplus else ""
        return f"submission {token}: found as {adopted}{extra}"
    return _not_found(store, row, scheduler, clock, lease_epoch)


def _cancel_surplus(
    store: Store, token: str, surplus: list[str], scheduler: Scheduler
) -> str | None:
    keys = {
        TaskKey.of(token, scheduler_id, task["idx"], pack=task["pack"]).allocation: None
        for scheduler_id in surplus
        for task in store.tasks_of(token)
    }
    if not keys:
        return None
    return next((why for why in scheduler.cancel(list(keys)).values() if why), None)


def _not_found(
    store: Store, row: Row, scheduler: Scheduler, clock: Clock, lease_epoch: int
) -> str | None:
    token, unseen = row["token"], row["unseen"] + 1
    patience = patience_of(scheduler)
    waited = clock.wall() - row["created_at"]
    lost = unseen >= patience.find_answers and waited >= patience.quiet_seconds
    with store.writing(lease_epoch):
        store.set_unseen(token, unseen)
        if lost:
            cause = f"{unseen} complete searches in {waited:.0f} s did not find it"
            store.settle(token, "lost", scheduler_id=None, reason=cause)
            give_back(store, token, reason="handed over again: it never arrived", cause=cause)
    hit("settle.committed")
    return f"submission {token}: never arrived; its jobs are due again" if lost else None
