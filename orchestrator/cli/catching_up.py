"""Looking before telling: with no watcher alive, a reading verb does one tick itself.

On Slurm the jobs bring themselves back with nobody watching, so the store may be hours behind.
An observation younger than 30 s is used again: five terminals with `watch -n1 orch status` must
not multiply the load on the controller. The tick runs beside the verb, so that a controller that
does not answer never keeps anybody from what the store knows.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.cli.exits import Stop
from orchestrator.cli.session import open_acting
from orchestrator.cli.streams import say

if TYPE_CHECKING:
    from orchestrator.rows import Watcher

FRESH_SECONDS = 30.0
PATIENT_SECONDS = 2.0  # so long the store's rows wait for better ones


def is_stale(watcher: Watcher, *, now: float) -> bool:
    """Return whether what the store says may be behind, and nobody is there to look."""
    if watcher.alive:
        return False
    return watcher.last_tick is None or now - watcher.last_tick > FRESH_SECONDS


class CatchingUp:
    """One tick in a thread of its own (a database connection belongs to one thread).

    What stands in the way (the scheduler is silent, somebody else writes) is said, never raised:
    the verb then tells what the store has.
    """

    def __init__(self, home: Path) -> None:
        from threading import Thread

        self._home = home
        self._problem: str | None = None
        self._failure: BaseException | None = None
        # Not a daemon: a tick that hands jobs over should be waited for, not cut off.
        self._thread = Thread(target=self._run, name="orch-catch-up")
        self._thread.start()

    def _run(self) -> None:
        try:
            self._problem = _tick(self._home)
        except BaseException as error:  # noqa: BLE001  # carried to the main thread
            self._failure = error

    def done(self, *, within: float | None = None) -> bool:
        """Wait so many seconds (None: to the end); return whether the tick is over.

        Raises what ended the tick unexpectedly.
        """
        self._thread.join(within)
        if self._thread.is_alive():
            return False
        if self._failure is not None:
            raise self._failure
        if self._problem is not None:
            say(f"not up to date: {self._problem}")
            self._problem = None
        return True


def catch_up(home: Path, *, unsettled: bool) -> CatchingUp | None:
    """Begin one tick if it may change anything; None: nothing can have changed."""
    return CatchingUp(home) if unsettled else None


def _tick(home: Path) -> str | None:
    """Do one tick; return why the store is not up to date, None when it is."""
    from durable.locks import Locked
    from orchestrator.instance import StateRefused

    try:
        service = open_acting(home)
    except Stop as problem:
        return problem.message
    try:
        report = service.tick()
    except Locked:
        return None  # somebody began to write since we looked: they tick
    except StateRefused as refused:
        return f"{refused}\n    fix: {refused.fix}"
    finally:
        service.close()
    if report.unreachable is not None:
        return f"the scheduler cannot be asked: {report.unreachable}"
    return None
