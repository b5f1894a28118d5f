"""The process group's store, with a bound on every answer.

torch's client waits without limit in `check` when the process that serves the store is stopped:
a hung rank 0 would hang all others. So each call runs on a thread of its own kind and is given
up after the bound; the thread is then lost, as is the attempt.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any

from worker.failures import PeerLost
from worker.patience import LOOK_SECONDS, Patience


class BoundedStore:
    """The few verbs of a store that we use. Each raises `PeerLost` after `timeout_seconds`."""

    def __init__(self, store: Any, *, timeout_seconds: float) -> None:
        self._store = store
        self._timeout = timeout_seconds
        # Two queues and no Event: the way to the thread and back is on every step's path.
        self._calls: queue.SimpleQueue[tuple[Callable[..., Any], tuple[Any, ...]]]
        self._calls = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name="store", daemon=True)
        self._thread.start()

    def sibling(self) -> BoundedStore:
        """Return a client of the same store for another thread: answers are never mixed up."""
        return BoundedStore(self._store, timeout_seconds=self._timeout)

    def check(self, keys: list[str]) -> bool:
        """Tell whether all keys are set."""
        return bool(self._call(self._store.check, keys))

    def get(self, key: str) -> bytes:
        """Return the value of a key that is set."""
        value: bytes = self._call(self._store.get, key)
        return value

    def set(self, key: str, value: str) -> None:
        """Set a key."""
        self._call(self._store.set, key, value)

    def compare_set(self, key: str, expected: str, desired: str) -> bytes:
        """Set a key if it has the expected value ("": not set); return what stands."""
        value: bytes = self._call(self._store.compare_set, key, expected, desired)
        return value

    def delete(self, key: str) -> None:
        """Remove a key."""
        self._call(self._store.delete_key, key)

    def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        self._calls.put((function, arguments))
        answer = self._answer()
        if isinstance(answer, RuntimeError):
            raise PeerLost(f"the store of rank 0 does not answer: {answer}") from answer
        return answer

    def _answer(self) -> Any:
        patience = Patience(self._timeout)
        while True:
            left = min(patience.look(), LOOK_SECONDS / 2)
            try:
                return self._answers.get(timeout=left)
            except queue.Empty:
                if left > 0:
                    continue
                # Nobody may take the late answer for that of another question.
                self._answers = queue.SimpleQueue()
                raise PeerLost(
                    f"the store of rank 0 gave no answer within {self._timeout:.0f} s"
                ) from None

    def _serve(self) -> None:
        answers = self._answers
        while True:
            function, arguments = self._calls.get()
            try:
                answers.put(function(*arguments))
            except RuntimeError as error:  # all of torch's store errors derive from it
                answers.put(error)
