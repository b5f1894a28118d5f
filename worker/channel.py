"""How ranks talk outside of collectives: values in the process group's store, always bounded.

Errors travel as values: a phase ends with every rank's status gathered, never with a bare
barrier. Every wait has a bound and names the ranks that did not answer.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from worker.failures import PeerLost
from worker.patience import Patience
from worker.store_client import BoundedStore

POLL_SECONDS = 0.005


class Channel:
    """Rank 0 collects, rank 0 tells. All ranks open the same tickets in the same order."""

    def __init__(
        self,
        store: BoundedStore,
        *,
        rank: int,
        world_size: int,
        timeout_seconds: float,
        beat: Callable[[], None] = lambda: None,
        prefix: str = "",
    ) -> None:
        self._store = store
        self._prefix = prefix
        self.rank = rank
        self.world_size = world_size
        self.timeout_seconds = timeout_seconds
        self._beat = beat
        self._tickets = 0

    def sibling(self, name: str, *, timeout_seconds: float) -> Channel:
        """Return a channel of the same ranks for another thread; its tickets are its own."""
        return Channel(
            self._store.sibling(),
            rank=self.rank,
            world_size=self.world_size,
            timeout_seconds=timeout_seconds,
            prefix=f"{name}/",
        )

    def ticket(self, name: str) -> str:
        """Open the next conversation; same name on every rank."""
        self._tickets += 1
        return f"{self._prefix}{self._tickets}/{name}"

    def collect(
        self,
        ticket: str,
        mine: Any,
        *,
        interrupted: Callable[[], bool] = lambda: False,
        timeout_seconds: float | None = None,
    ) -> list[Any] | None:
        """Give rank 0 a JSON value; return all ranks' values there, None elsewhere.

        Rank 0 also returns None when `interrupted()` says that some will not come. Raises
        `PeerLost` naming the ranks that are missing after the bound.
        """
        keys = [f"{ticket}/{rank}" for rank in range(self.world_size)]
        self._store.set(keys[self.rank], json.dumps(mine))
        if self.rank != 0:
            return None
        if not self._wait(keys, interrupted, timeout_seconds):
            return None
        values = [json.loads(self._store.get(key)) for key in keys]
        for key in keys:  # rank 0 alone reads them
            self._store.delete(key)
        return values

    def tell(
        self,
        ticket: str,
        value: Any = None,
        *,
        interrupted: Callable[[], bool] = lambda: False,
        timeout_seconds: float | None = None,
    ) -> Any:
        """Return rank 0's `value` on every rank; None where `interrupted()` ended the wait.

        A told value is never None.
        """
        key = f"{ticket}/told"
        if self.rank == 0:
            self._store.set(key, json.dumps(value))
            return value
        if not self._wait([key], interrupted, timeout_seconds):
            return None
        return json.loads(self._store.get(key))

    def farewell(self, seconds: float) -> None:
        """Let rank 0, which holds the store, leave last; bounded, and no answer is no failure."""
        try:
            self.collect(
                self.ticket("farewell"),
                self.rank,
                timeout_seconds=min(seconds, self.timeout_seconds),
            )
        except PeerLost:
            return

    def present(self, keys: list[str]) -> bool:
        """Tell whether all keys are set. Raises `PeerLost`."""
        return bool(self._store.check(keys))

    def peek(self, key: str) -> bytes | None:
        """Return a value that is set, None otherwise. Raises `PeerLost`."""
        return self._store.get(key) if self._store.check([key]) else None

    def first_word(self, key: str, value: str) -> bytes:
        """Set a value unless another rank was first; return what stands. Raises `PeerLost`."""
        return self._store.compare_set(key, "", value)

    def _wait(
        self, keys: list[str], interrupted: Callable[[], bool], timeout_seconds: float | None
    ) -> bool:
        bound = self.timeout_seconds if timeout_seconds is None else timeout_seconds
        patience = Patience(bound)
        while not self.present(keys):
            if interrupted():
                return False
            if patience.over:
                missing = [key for key in keys if not self.present([key])]
                raise PeerLost(f"no answer within {bound:.0f} s: {', '.join(missing[:8])}")
            self._beat()
            time.sleep(POLL_SECONDS)
        return True
