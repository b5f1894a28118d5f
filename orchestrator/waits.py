"""Waits that no back-off can have asked for: the clock was set back after they were reckoned."""

from __future__ import annotations

from durable.clock import Clock
from orchestrator.store import Store


def end_overlong_waits(store: Store, clock: Clock, *, lease_epoch: int) -> None:
    """Let jobs be due at once that wait longer than their longest back-off."""
    jobs = [row["id"] for row in store.database.rows("waits_beyond_reason", {"now": clock.wall()})]
    if not jobs:
        return
    with store.writing(lease_epoch):
        for job in jobs:
            store.database.run("wait_over", {"id": job})
            store.event("wait", job=job, cause="the clock was set back", decision="due at once")
