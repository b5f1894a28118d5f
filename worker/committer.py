"""One try at one save: every rank stages its files, rank 0 commits, all learn how it went.

It knows a save only as what was taken at a step boundary (`PendingSave`), so that it may run
while the training goes on: nothing here looks at the engine or at where the run stands.
"""

from __future__ import annotations

import errno
import itertools
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from checkpoints.errors import BrokenCheckpoint, Fenced, StagingFailed
from checkpoints.manifest import FileEntry, ManifestHeader
from checkpoints.retention import MIN_KEEP
from checkpoints.store import CheckpointStore
from durable.faults import hit
from jobs.spec import SaveSpec
from worker.attempt import Attempt
from worker.channel import Channel
from worker.claim import check_fence
from worker.metrics import Curve
from worker.node_staging import NodeStaging
from worker.patience import running
from worker.snapshot import Copies, files_of, tensor_file
from worker.snapshot.state import Tensors

BEST = "best.safetensors"
SLOW_BYTES_PER_SECOND = 10e6  # a disk that is slower than this looks like one that hangs
Verdict = dict[str, Any]  # JSON: name, digest, seconds; or problem, full, again; or fenced
log = logging.getLogger("orch")


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingSave:
    """All that one save puts down; later steps change none of it."""

    header: ManifestHeader
    copies: Copies
    best: Tensors | None  # on rank 0, where the best weights need a file of their own
    began: float  # by `running`

    @property
    def step(self) -> int:
        """The step whose state this is."""
        return self.header.step


class Committer:
    """Puts pending saves into the store. All ranks use theirs in the same order."""

    def __init__(
        self,
        *,
        attempt: Attempt,
        store: CheckpointStore,
        channel: Channel,
        curve: Curve,
        say: Callable[[str], None],
        tries: Iterator[int] | None = None,
        interrupted: Callable[[], bool] = lambda: False,
        node: NodeStaging | None = None,
    ) -> None:
        """`tries`: shared by all committers of a rank; `interrupted`: wait for no rank any more.

        `node`: what is staged goes by way of the node's own disk.
        """
        self._attempt, self._store, self._channel = attempt, store, channel
        self.curve, self._say, self._interrupted = curve, say, interrupted
        self._node = node
        self.tries = itertools.count(1) if tries is None else tries

    @property
    def _save(self) -> SaveSpec:
        return self._attempt.spec.run.save

    def attempt(self, pending: PendingSave) -> Verdict:
        """Stage and commit once; return rank 0's verdict on every rank. Raises `PeerLost`."""
        channel = self._channel
        # No rank writes much more than what this one holds, and they do not begin together.
        patience = channel.timeout_seconds + pending.copies.nbytes / SLOW_BYTES_PER_SECOND
        ticket = channel.ticket("save")
        # Tries count alike on all ranks, also where one of them failed before it could stage.
        mine = self._stage(pending, try_number=next(self.tries))
        statuses = channel.collect(
            ticket, mine, interrupted=self._interrupted, timeout_seconds=patience
        )
        if channel.rank == 0 and statuses is None:
            statuses = [{"problem": "the attempt ends, and a rank has not staged its part"}]
        verdict: Verdict | None = channel.tell(
            ticket,
            self._commit(pending, statuses) if statuses is not None else None,
            interrupted=self._interrupted,
            timeout_seconds=patience,
        )
        return verdict or {"problem": "the attempt ends, and rank 0 has not committed"}

    def prune(self, *, keep: int) -> None:
        """Delete superseded checkpoints. A failure is reported: it costs space, not safety."""
        try:
            self._store.prune(keep, every_steps=self._save.keep_every_steps)
        except OSError as error:
            self._say(f"old checkpoints not removed: {error}")

    def _stage(self, pending: PendingSave, *, try_number: int) -> dict[str, Any]:
        """Write this rank's files; return their entries, or the problem."""
        rank = self._channel.rank
        try:
            if rank == 0:
                self.curve.flush()  # the rows that this checkpoint covers come first
            files = files_of(pending.copies.state())
            if pending.best is not None:
                files[BEST] = tensor_file(pending.best)
            hit("save.before_stage")
            writer = self._store.stage(
                step=pending.step, epoch=pending.header.epoch, rank=rank, try_number=try_number
            )
            self._node.write(files, writer) if self._node else writer.write_all(files)
            entries = writer.finish()
            hit("save.after_stage")
        except (OSError, StagingFailed) as error:
            return {"problem": f"rank {rank}: {error}", "full": _is_full(error)}
        return {"entries": [entry.model_dump(mode="json") for entry in entries]}

    def _commit(self, pending: PendingSave, statuses: Sequence[dict[str, Any]]) -> Verdict:
        """Commit (rank 0); return what to tell the ranks."""
        store, header = self._store, pending.header
        problems = [status["problem"] for status in statuses if "problem" in status]
        try:
            if problems:
                self._check_fence()  # or a newer epoch swept what was staged
                store.discard(step=header.step, epoch=header.epoch)
                full = any(status.get("full") for status in statuses)
                return {"problem": "; ".join(problems), "full": full and self._made_room()}
            entries = [FileEntry.model_validate(e) for s in statuses for e in s["entries"]]
            committed = store.commit(header, entries, fence=self._check_fence)
        except Fenced as error:
            return {"fenced": str(error)}
        except (OSError, BrokenCheckpoint) as error:
            self._discard(header)
            return {"problem": str(error), "full": _is_full(error) and self._made_room()}
        if self._save.read_back:
            try:
                store.verify(committed.name, cold=True)
            except BrokenCheckpoint as error:
                store.quarantine(committed.name, error)
                problem = f"read back differently from what was written: {error}"
                return {"problem": problem, "again": False}  # its name is taken for good
        seconds = running.now() - pending.began
        return {"name": committed.name, "digest": committed.digest, "seconds": seconds}

    def _check_fence(self) -> None:
        check_fence(self._attempt.job, self._attempt.epoch)

    def _made_room(self) -> bool:
        """Delete all that the rules allow; return whether anything went (rank 0)."""
        try:
            return bool(self._store.prune(MIN_KEEP, every_steps=self._save.keep_every_steps))
        except OSError as error:
            log.warning("no room could be made: %s", error)
            return False

    def _discard(self, header: ManifestHeader) -> None:
        try:
            self._store.discard(step=header.step, epoch=header.epoch)
        except OSError as error:
            self._say(f"staging left behind: {error}")


def _is_full(error: Exception) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
