"""How ranks talk outside of collectives: values in the process group's store, always bounded.

Errors travel as values: a phase ends with every rank's status gathered, never with a bare
barrier. Every wait has a bound and names the ranks that did not answer.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from worker.failures import PeerLost

POLL_SECONDS = 0.005


class Channel:
    """Rank 0 collects, rank 0 tells. All ranks open the same tickets in the same order."""

    def __init__(
        self,
        store: Any,
        *,
        rank: int,
        world_size: int,
        timeout_seconds: float,
        beat: Callable[[], None] = lambda: None,
    ) -> None:
        self.store = store
        self.rank = rank
        self.world_size = world_size
        self.timeout_seconds = timeout_seconds
        self._beat = beat
        self._tickets = 0

    def ticket(self, name: str) -> str:
        """Open the next conversation; same name on every rank."""
        self._tickets += 1
        return f"{self._tickets}/{name}"

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
        self._put(keys[self.rank], mine)
        if self.rank != 0:
            return None
        if not self._wait(keys, interrupted, timeout_seconds):
            return None
        values = [json.loads(self._get(key)) for key in keys]
        with suppress(RuntimeError):  # rank 0 alone reads them; a leftover does no harm
            for key in keys:
                self.store.delete_key(key)
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
            self._put(key, value)
            return value
        if not self._wait([key], interrupted, timeout_seconds):
            return None
        return json.loads(self._get(key))

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

    def _put(self, key: str, value: Any) -> None:
        try:
            self.store.set(key, json.dumps(value))
        except RuntimeError as error:
            raise PeerLost(f"the store of rank 0 does not answer: {error}") from error

    def _get(self, key: str) -> bytes:
        try:
            value: bytes = self.store.get(key)
        except RuntimeError as error:
            raise PeerLost(f"the store of rank 0 does not answer: {error}") from error
        return value

    def present(self, keys: list[str]) -> bool:
        """Tell whether all keys are set. Raises `PeerLost`."""
        try:
            return bool(self.store.check(keys))
        except RuntimeError as error:
            raise PeerLost(f"the store of rank 0 does not answer: {error}") from error

    def _wait(
        self, keys: list[str], interrupted: Callable[[], bool], timeout_seconds: float | None
    ) -> bool:
        bound = self.timeout_seconds if timeout_seconds is None else timeout_seconds
        deadline = time.monotonic() + bound
        while not self.present(keys):
            if interrupted():
                return False
            if time.monotonic() > deadline:
                missing = [key for key in keys if not self.present([key])]
                raise PeerLost(f"no answer within {bound:.0f} s: {', '.join(missing[:8])}")
            self._beat()
            time.sleep(POLL_SECONDS)
        return True
