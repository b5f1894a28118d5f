"""Looking before telling: with no watcher alive, a reading verb does one tick itself.

On Slurm the jobs bring themselves back with nobody watching, so the store may be hours behind.
An observation younger than 30 s is used again: five terminals with `watch -n1 orch status` must
not multiply the load on the controller.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.cli.exits import Stop
from orchestrator.cli.session import open_acting
from orchestrator.cli.streams import say

if TYPE_CHECKING:
    from orchestrator.rows import JobRow, Watcher

FRESH_SECONDS = 30.0


def is_stale(watcher: Watcher, *, now: float) -> bool:
    """Return whether what the store says may be behind, and nobody is there to look."""
    if watcher.alive:
        return False
    return watcher.last_tick is None or now - watcher.last_tick > FRESH_SECONDS


def catch_up(home: Path, rows: Sequence[JobRow]) -> bool:
    """Do one tick if jobs are open; return whether the store may have changed.

    What stands in the way (the scheduler is silent, somebody else writes) is said, never raised:
    the verb then tells what the store has.
    """
    from orchestrator.views.status import is_open

    if not any(map(is_open, rows)):
        return False
    from durable.locks import Locked

    try:
        service = open_acting(home)
    except Stop as problem:
        say(f"not up to date: {problem.message}")
        return False
    try:
        report = service.tick()
    except Locked:
        return True  # somebody began to write since we looked: they tick
    finally:
        service.close()
    if report.unreachable is not None:
        say(f"not up to date: the scheduler cannot be asked: {report.unreachable}")
    return True
