"""Saves behind the training: hashed, written and committed by a thread of every rank.

At most one is in flight. The threads talk through a channel of their own, never through the
training's collectives. What they have to say to people waits until the training's thread asks:
heartbeat and log have one writer.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

from checkpoints.store import CheckpointStore
from durable.faults import hit
from worker.attempt import Attempt
from worker.channel import Channel
from worker.committer import Committer, PendingSave, Verdict
from worker.node_staging import NodeStaging
from worker.snapshot import HostMemory

TRIES = 2
POLL_SECONDS = 0.01
PEER_SECONDS = 5.0  # for the other ranks' parts, once the attempt is about to end


class InFlight:
    """One save behind the training."""

    def __init__(self, pending: PendingSave, work: Callable[[InFlight], None]) -> None:
        self.pending = pending
        self.verdict: Verdict | None = None
        self.error: BaseException | None = None
        self.told = False  # people know how it ended
        self._decided = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(work,), name="save", daemon=True)
        self._thread.start()

    @property
    def decided(self) -> bool:
        """Whether it is known how the save went; nothing reads the pending save any more."""
        return self._decided.is_set()

    def decide(self, verdict: Verdict) -> None:
        """Say how it went; the thread may still tidy up."""
        hit("background.decided")
        self.verdict = verdict
        self._decided.set()

    def wait(self, gives_up: Callable[[], bool]) -> bool:
        """Wait until it is decided; False where given up.

        No heartbeat meanwhile: a disk that hangs must look as if it did.
        """
        while not self._decided.wait(POLL_SECONDS):
            if gives_up():
                return False
        return True

    def join(self) -> None:
        """Wait until the thread has tidied up, too."""
        self._thread.join()

    def _run(self, work: Callable[[InFlight], None]) -> None:
        try:
            work(self)
        except BaseException as error:  # noqa: BLE001 - the training's thread raises it
            self.error = error
        finally:
            self._decided.set()


class BackgroundSaves:
    """A rank's saves behind its training, one after the other."""

    def __init__(
        self,
        *,
        attempt: Attempt,
        store: CheckpointStore,
        channel: Channel,
        beside: Committer,
        memory: HostMemory,
    ) -> None:
        """`channel`: for the threads alone; `beside`: commits what the training waits for."""
        self.memory = memory
        self.current: InFlight | None = None
        self._before: InFlight | None = None
        self._heard: deque[str] = deque()
        self._leaving_since: float | None = None
        self._rank, self._keep = channel.rank, attempt.spec.run.save.keep
        root = attempt.assignment.site.node_scratch_root
        self._committer = Committer(
            attempt=attempt,
            store=store,
            channel=channel,
            curve=beside.curve,
            say=self._heard.append,
            tries=beside.tries,
            interrupted=self._waits_for_nobody,
            node=NodeStaging(attempt, Path(root), self._heard.append) if root else None,
        )

    def start(self, pending: PendingSave) -> None:
        """Let the training go on while `pending` is put down. Nothing else may be in flight."""
        assert self.current is None
        hit("background.before_start")
        self.current = InFlight(pending, self._put_down)

    def settled(self) -> None:
        """Nothing is in flight any more; its thread may still prune."""
        self._before, self.current = self.current, None

    def heard(self) -> Iterator[str]:
        """Yield, once, what a person should see."""
        while self._heard:
            yield self._heard.popleft()

    def leave(self) -> None:
        """Say that the attempt is about to end: other ranks may not come any more."""
        self._leaving_since = time.monotonic()

    def _waits_for_nobody(self) -> bool:
        since = self._leaving_since
        return since is not None and time.monotonic() - since > PEER_SECONDS

    def _put_down(self, save: InFlight) -> None:
        if self._before is not None:
            self._before.join()
        step = save.pending.step
        for number in range(1, TRIES + 1):
            verdict = self._committer.attempt(save.pending)
            problem = verdict.get("problem")
            if problem is None:
                break
            again = number < TRIES and verdict.get("again", True) and self._leaving_since is None
            then = "; it is tried once more" if again else ""
            self._heard.append(f"step {step} not saved: {problem}{then}")
            if not again:
                break
        save.decide(verdict)
        if "name" in verdict and self._rank == 0:
            self._committer.prune(keep=self._keep)
