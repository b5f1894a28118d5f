"""The local launcher: starts the ranks of one task, passes signals on, bounds a dead or hung rank.

    python -P -m worker.launch --submission DIR --index N [--cell]

N is an allocation; with `--cell` a packed allocation's own launcher asks for one of its cells.

It imports nothing heavy and holds no state: `launch.NNNNN.json` says who it is and how it ended.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from durable.faults import hit
from durable.files import publish_file
from durable.oom_counter import OomCounter
from durable.processes import ProcessIdentity
from jobs.contract import environment as names
from jobs.contract.exit_codes import AGAIN_CODES, ExitCode
from worker.attempt import (
    Assignment,
    is_packed,
    rank_timeout,
    read_assignment,
    valid_result,
)
from worker.early_signals import NOTICE_SIGNALS
from worker.failures import Misconfigured
from worker.layout import BadLayout, read_layout
from worker.spawning import RankProcess, Spawner, choose_spawner

POLL_SECONDS = 0.02
# A rank that lost its peer finds out after the rank timeout and leaves by itself, with a record.
OWN_ACCOUNT_SECONDS = 5.0
TERM_TO_KILL_SECONDS = 5.0
# A gap between two looks means that the launcher was stopped or the machine slept.
GAP_SECONDS = 2.0


class SignalQueue:
    """Signals as they come; each receipt is passed on once."""

    def __init__(self) -> None:
        self._waiting: list[int] = []
        for number in (*NOTICE_SIGNALS, signal.SIGCONT):
            signal.signal(number, lambda received, _: self._waiting.append(received))

    def take(self) -> list[int]:
        """Return what came since the last call."""
        taken, self._waiting[:] = list(self._waiting), []
        return taken


class Overdue:
    """When the other ranks of a dead one are ended: first TERM, then KILL. Pure but for time."""

    def __init__(self, patience_seconds: float) -> None:
        self._patience = patience_seconds
        self._deadline: float | None = None
        self._steps = [signal.SIGTERM, signal.SIGKILL]
        self._last: float | None = None

    def due(self, now: float, *, some_ended: bool) -> int | None:
        """Return the signal that the remaining ranks must get now, or None."""
        gap = 0.0 if self._last is None else now - self._last
        self._last = now
        if not some_ended or not self._steps:
            return None
        if self._deadline is None:
            self._deadline = now + self._patience
        if gap > GAP_SECONDS:
            self._deadline += gap  # stopped time counts for nobody
        if now < self._deadline:
            return None
        self._deadline = now + TERM_TO_KILL_SECONDS
        return self._steps.pop(0)


def exit_code(codes: Sequence[int], *, has_result: bool) -> ExitCode:
    """Return the attempt's exit code from its ranks' (negative: killed by that signal). Pure."""
    said = {128 - code if code < 0 else code for code in codes}
    if has_result:
        return ExitCode.RESULT
    if ExitCode.CONFIGURATION in said:
        return ExitCode.CONFIGURATION
    # A rank killed outright has no word; what the others say about it stands.
    if AGAIN_CODES & said and said <= AGAIN_CODES | {128 + signal.SIGKILL, 0}:
        return ExitCode.AGAIN
    return ExitCode.EXCEPTION


@dataclass(frozen=True, slots=True, kw_only=True)
class Ends:
    """How the ranks ended: exit codes (negative: by that signal), and who got SIGKILL from us."""

    codes: list[int]
    ours: frozenset[int] = frozenset()

    @property
    def killed(self) -> list[int]:
        """The ranks that got SIGKILL (or whose command did), and not from us."""
        said = {-signal.SIGKILL, 128 + signal.SIGKILL}
        return [n for n, code in enumerate(self.codes) if code in said and n not in self.ours]


def run_ranks(ranks: Sequence[RankProcess], signals: SignalQueue, *, patience: float) -> Ends:
    """Wait for all ranks, bounded once one has ended; return how they ended."""
    overdue, ours = Overdue(patience), set[int]()
    while True:
        codes = [rank.poll() for rank in ranks]
        if all(code is not None for code in codes):
            return Ends(codes=[c for c in codes if c is not None], ours=frozenset(ours))
        running = [rank for rank, code in zip(ranks, codes, strict=True) if code is None]
        for received in signals.take():
            for rank in running:
                rank.send_signal(received)
        due = overdue.due(time.monotonic(), some_ended=len(running) < len(ranks))
        if due is not None:
            if due == signal.SIGKILL:
                ours.update(number for number, code in enumerate(codes) if code is None)
            for rank in running:
                rank.send_signal(due)
                rank.send_signal(signal.SIGCONT)  # a stopped one gets the rest only then
        time.sleep(POLL_SECONDS)


def rank_environment(assignment: Assignment, *, rank: int, launch_id: str) -> dict[str, str]:
    """Return the environment of a rank: ours, plus its place."""
    engine = assignment.spec.semantic.engine
    return dict(os.environ) | {
        names.RANK: str(rank),
        names.WORLD_SIZE: str(assignment.ranks),
        names.TASK_INDEX: str(assignment.task.index),
        names.LAUNCH_ID: launch_id,
        "OMP_NUM_THREADS": str(engine.threads_per_rank),
        "TOKENIZERS_PARALLELISM": "false",
    }


def launch(assignment: Assignment, spawner: Spawner) -> int:
    """Run one try of a task; return its exit code, on record in launch.NNNNN.json."""
    signals = SignalQueue()  # before the record: whoever reads it may signal us
    launch_id = secrets.token_hex(8)
    record = launcher_identity(launch_id)
    counter = OomCounter.own()
    if counter is not None:  # whoever buries us may have to ask it
        record["oom_counter"] = {"path": counter.path, "kills": counter.kills}
    path = launch_record(assignment)
    publish_launch(path, record)
    hit("launch.after_record")
    arguments = ["--submission", str(assignment.submission.path)]
    arguments += ["--index", str(assignment.task.index)]
    ranks: list[RankProcess] = []
    for rank in range(assignment.ranks):
        env = rank_environment(assignment, rank=rank, launch_id=launch_id)
        ranks.append(spawner.spawn(arguments, env))
        hit("launch.after_spawn")
    record["ranks"] = [rank.pid for rank in ranks]
    publish_launch(path, record)
    patience = rank_timeout(assignment.site) + OWN_ACCOUNT_SECONDS
    ends = run_ranks(ranks, signals, patience=patience)
    has_result = valid_result(assignment.job, assignment.spec) is not None
    code = exit_code(ends.codes, has_result=has_result)
    hit("launch.before_end")
    ended = {"exit_code": int(code), "ended_at": time.time(), "rank_exit_codes": ends.codes}
    if ends.killed:
        kills = counter.since() if counter else None
        ended |= {"killed_ranks": ends.killed, "oom_kills": kills}
        if kills:  # in the words that a packed allocation's launcher knows from Slurm
            print(f"orch launch: {kills} oom_kill event, rank {ends.killed}", flush=True)  # noqa: T201
    publish_launch(path, record | ended)
    return code


def launch_record(assignment: Assignment) -> Path:
    """Return where the launcher of a task, or of a cell, says who it is and how it ended."""
    submission, index = assignment.submission, assignment.task.index
    return submission.launch(index) if assignment.tasks.pack == 1 else submission.cell_launch(index)


def launcher_identity(launch_id: str) -> dict[str, Any]:
    """Return what a launcher says of itself when it begins."""
    me = ProcessIdentity.current()
    return {
        "schema_version": 1,
        "launch_id": launch_id,
        "identity": {"boot_id": me.boot_id, "pid": me.pid, "start": me.start},
        "started_at": time.time(),
    }


def publish_launch(path: Path, record: dict[str, Any]) -> None:
    """Write a launcher's record. Raises OSError."""
    publish_file(path, json.dumps(record, sort_keys=True).encode() + b"\n")


def main(argv: Sequence[str]) -> int:
    """Parse the command line and launch."""
    parser = argparse.ArgumentParser(prog="python -P -m worker.launch")
    parser.add_argument("--submission", type=Path, required=True, help="submissions/<token>")
    parser.add_argument("--index", type=int, default=0, help="allocation, or index into tasks.json")
    parser.add_argument("--cell", action="store_true", help="start one cell of a pack")
    arguments = parser.parse_args(argv)
    try:
        if not arguments.cell and is_packed(arguments.submission):
            from worker.packed import run_allocation

            return run_allocation(arguments.submission, arguments.index)
        assignment = read_assignment(arguments.submission, read_layout({}, index=arguments.index))
        return launch(assignment, choose_spawner(os.environ))
    except (Misconfigured, BadLayout) as error:
        print(f"orch launch: {error}", file=sys.stderr)  # noqa: T201 - there is no log yet
        return ExitCode.CONFIGURATION


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
