"""What the crash tests run in a child, to be killed in the middle: one attempt at a job.

As in life, each rank stages in a process of its own; rank 0 commits only if all of them lived.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from pathlib import Path

from checkpoints.manifest import FileEntry
from checkpoints.store import CheckpointStore
from durable import faults
from tests.unit.checkpoints.fake_attempt import RANKS, header, no_fence, open_store, stage_rank


class RankDied(ChildProcessError):
    """A rank was killed or failed: this save is dead."""


def attempt(root: str, *, epoch: int, step: int, tries: int = 1) -> None:
    """Sweep, load, save one checkpoint (in up to `tries` tries), prune.

    Raises OSError if that could not be done.
    """
    _become_rank(0)
    store = open_store(Path(root))
    store.sweep(epoch=epoch)
    store.latest_verified(_say)
    for number in range(1, tries + 1):
        try:
            _save(store, step=step, epoch=epoch, try_number=number)
            break
        except OSError:
            if number == tries:
                raise
            store.discard(step=step, epoch=epoch)
    print(f"committed {step}", file=sys.stderr, flush=True)
    store.prune(keep=2)


def load(root: str) -> None:
    """Load the latest checkpoint, quarantining bad ones."""
    open_store(Path(root)).latest_verified(_say)


def _say(report: str) -> None:
    print(report, file=sys.stderr)


def _become_rank(rank: int) -> None:
    os.environ["ORCH_RANK"] = str(rank)
    faults.reset()


def _save(store: CheckpointStore, *, step: int, epoch: int, try_number: int) -> None:
    others = [
        _stage_elsewhere(store, step=step, epoch=epoch, rank=rank, try_number=try_number)
        for rank in range(1, RANKS)
    ]
    entries = stage_rank(store, step=step, epoch=epoch, rank=0, try_number=try_number)
    for theirs in others:
        if theirs is None:
            raise RankDied("a rank died while staging")
        entries.extend(theirs)
    store.commit(header(step=step, epoch=epoch), entries, fence=no_fence)


def _stage_elsewhere(
    store: CheckpointStore, *, step: int, epoch: int, rank: int, try_number: int
) -> list[FileEntry] | None:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        # A fault that fired in an earlier try fires once more: this is a new process.
        with suppress(OSError):
            _become_rank(rank)
            staged = stage_rank(store, step=step, epoch=epoch, rank=rank, try_number=try_number)
            os.write(writer, json.dumps([entry.model_dump() for entry in staged]).encode())
            code = 0
        os._exit(code)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        text = pipe.read()
    _, status = os.waitpid(child, 0)
    return None if status else [FileEntry.model_validate(entry) for entry in json.loads(text)]


if __name__ == "__main__":
    attempt(sys.argv[1], epoch=int(sys.argv[2]), step=int(sys.argv[3]), tries=int(sys.argv[4]))
