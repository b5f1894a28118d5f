"""Who ticks while `orch submit --wait` waits.

Somebody must hold the lease, or nothing moves: a background watcher (local backend), or a
thread of this process when nobody else does (Slurm, `--no-watch`). Either may die; `keep`
is called at every look and puts things right.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from durable.locks import Locked

if TYPE_CHECKING:
    from orchestrator.rows import TickReport, Watcher
    from orchestrator.service import Service

_RESTART_SECONDS = 10.0
_JOIN_SECONDS = 30.0


class Mover(Protocol):
    """Keeps the jobs moving while someone looks on."""

    def keep(self, watcher: Watcher) -> None:
        """Make sure that somebody ticks; `watcher` is what the last look saw."""
        ...

    def detach(self) -> str:
        """Let go while jobs are open; return a sentence on who goes on."""
        ...

    def close(self) -> None:
        """End what is ours; no job is open any more."""
        ...


class BackgroundMover:
    """A watcher process of its own, started again if it is found dead."""

    def __init__(self, ensure: Callable[[], object]) -> None:
        self._ensure = ensure
        self._ensured_at = -_RESTART_SECONDS

    def keep(self, watcher: Watcher) -> None:
        """Start the watcher unless one is alive, at most every 10 s."""
        now = time.monotonic()
        if not watcher.alive and now - self._ensured_at >= _RESTART_SECONDS:
            self._ensured_at = now
            self._ensure()

    def detach(self) -> str:
        """Make sure that the sentence is true, also right after the start."""
        self._ensure()
        return "the jobs go on, with the background watcher"

    def close(self) -> None:
        """Leave the watcher alone: it leaves by itself."""


class ForegroundMover:
    """A thread with a service of its own (a database connection belongs to one thread)."""

    def __init__(
        self, open_service: Callable[[], Service], *, on_tick: Callable[[TickReport], None]
    ) -> None:
        self._open = open_service
        self._on_tick = on_tick
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._started_at = -_RESTART_SECONDS
        self._failure: Exception | None = None

    def keep(self, watcher: Watcher) -> None:
        """Run the loop here unless somebody holds the lease; raises what ended the loop."""
        if self._failure is not None:
            raise self._failure
        if watcher.alive or (self._thread is not None and self._thread.is_alive()):
            return
        now = time.monotonic()
        if now - self._started_at >= _RESTART_SECONDS:
            self._started_at = now
            self._thread = threading.Thread(target=self._run, name="orch-watch", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        try:
            self._open().watch(until_idle=True, on_tick=self._on_tick, stop=self._stop)
        except Locked:
            return  # somebody else moves the jobs; `keep` looks again
        except Exception as error:  # noqa: BLE001  # carried to the main thread, raised by `keep`
            self._failure = error

    def detach(self) -> str:
        """End the loop; attempts do not need it, the next ones do."""
        self.close()
        return "running attempts go on; nobody starts new ones until: orch watch"

    def close(self) -> None:
        """End the loop after its tick."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(_JOIN_SECONDS)
