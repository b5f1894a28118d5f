"""An attempt of two torch-free ranks, each a process, and whatever is to happen to one of them.

The ranks use the store as any script does (`checkpoints.simple`): claim an epoch, load, save,
prune; a save that failed is tried once more. They talk through one socket pair, and to the test
through another: what a rank has said there ("saved NAME") it would have told its user.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from checkpoints.errors import Fenced
from checkpoints.manifest import digest_of
from checkpoints.simple import Checkpoints, SaveFailed
from checkpoints.store import CheckpointStore
from durable import faults
from tests.unit.checkpoints.fake_attempt import shard

RUN = "two ranks"
RANKS = 2
FENCED, FAILED = 4, 3  # exit codes
PEER_LOST = signal.SIGUSR1  # the launcher's word to a rank: the other one will not answer
PATIENCE_SECONDS = 120.0


def open_store(root: Path) -> CheckpointStore:
    """Return the store as a reader sees it that remembers nothing."""
    return CheckpointStore(root, job=RUN, spec_digest=digest_of(RUN.encode()))


class Link:
    """A rank's end of the line to the other rank."""

    def __init__(self, line: socket.socket, rank: int) -> None:
        self._line, self._rank = line, rank
        self._stream = line.makefile("rb")
        signal.signal(PEER_LOST, lambda *_: line.shutdown(socket.SHUT_RDWR))

    def gather(self, value: Any) -> list[Any]:
        """Exchange values. Raises ConnectionError when the other rank is gone."""
        self._line.sendall(json.dumps(value).encode() + b"\n")
        theirs = self._stream.readline()
        if not theirs.endswith(b"\n"):
            raise ConnectionResetError("the other rank is gone")
        pair = [value, json.loads(theirs)]
        return pair if self._rank == 0 else pair[::-1]


@dataclass(kw_only=True)
class Process:
    """One rank, from outside."""

    pid: int
    words: socket.socket
    exit_code: int | None = None  # -N for signal N
    said: list[str] = field(default_factory=list)

    def wait(self, options: int = 0) -> bool:
        """Wait for the end, or with WUNTRACED for a stop; return whether it is stopped now."""
        if self.exit_code is not None:
            return False
        _, status = os.waitpid(self.pid, options)
        if os.WIFSTOPPED(status):
            return True
        self.exit_code = os.waitstatus_to_exitcode(status)
        with self.words, self.words.makefile("r") as lines:
            self.said = lines.read().splitlines()
        return False

    def signal(self, number: int) -> None:
        """Signal it unless it has ended."""
        if self.exit_code is None:
            os.kill(self.pid, number)


def start(
    root: Path,
    *,
    step: int,
    fault: str = "",
    log: Path | None = None,
    before: Callable[[int], None] = lambda rank: None,
) -> list[Process]:
    """Fork the ranks of one attempt; `log` is a prefix, `before` runs first in each."""
    ours, theirs = socket.socketpair()
    lines = (ours, theirs)
    processes = []
    for rank in range(RANKS):
        outside, inside = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            outside.close()
            lines[1 - rank].close()
            for process in processes:
                process.words.close()
            os.environ["ORCH_FAULT"] = fault
            os.environ["ORCH_FAULT_LOG"] = f"{log}.{rank}" if log else ""
            before(rank)
            _end(root, step, rank, Link(lines[rank], rank), inside)
        inside.close()
        processes.append(Process(pid=pid, words=outside))
    ours.close()
    theirs.close()
    return processes


def _end(root: Path, step: int, rank: int, link: Link, words: socket.socket) -> None:
    """Be the rank, and exit."""
    os.environ["ORCH_RANK"] = str(rank)
    faults.reset()
    code = 1
    try:
        code = _attempt(root, step, rank, link, lambda word: words.sendall(f"{word}\n".encode()))
    except BaseException:
        words.sendall(b"bug " + traceback.format_exc().replace("\n", " | ").encode() + b"\n")
    finally:
        os._exit(code)


def _attempt(root: Path, step: int, rank: int, link: Link, say: Callable[[str], None]) -> int:
    try:
        checkpoints = Checkpoints(
            root, run=RUN, rank=rank, world_size=RANKS, gather=link.gather, keep=2
        )
        say(f"epoch {checkpoints.epoch}")
        loaded = checkpoints.load()
        for report in loaded.reports if loaded and rank == 0 else ():
            say(f"report {report}")
        if loaded and loaded.files != shard(step=loaded.step, rank=rank):
            say(f"bug {loaded.name} was loaded and holds other bytes than were saved")
        say(f"loaded {loaded.name if loaded else None}")
        files = shard(step=step, rank=rank)
        try:
            name = checkpoints.save(step, files)
        except SaveFailed as error:
            say(f"failed {error}")
            name = checkpoints.save(step, files)
        say(f"saved {name}")
    except Fenced as error:
        say(f"fenced {error}")
        return FENCED
    except OSError as error:  # also when the other rank is gone
        say(f"error {error}")
        return FAILED
    return 0


def run(root: Path, *, step: int, **options: Any) -> list[Process]:
    """Run an attempt to its end. It must not stop."""
    processes = start(root, step=step, **options)
    for process in processes:
        process.wait()
    return processes


def saved(processes: list[Process]) -> str | None:
    """Return what the user was told was saved: by any rank."""
    for process in processes:
        for word in process.said:
            if word.startswith("saved "):
                return word.removeprefix("saved ")
    return None


def quiet_alarm(seconds: float = PATIENCE_SECONDS) -> None:
    """End this process, loudly, if a case hangs."""

    def expire(*_: object) -> None:
        print("a case took too long", file=sys.stderr)
        os._exit(9)

    signal.signal(signal.SIGALRM, expire)
    signal.alarm(int(seconds))
