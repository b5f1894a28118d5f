"""The local launcher of a packed allocation: one launcher for each cell, side by side.

What the batch script does on Slurm: it starts the cells, passes a notice of the allocation on to
all, starts a cell that left for itself alone again, and leaves with 75 while any is unfinished.
It holds no state: `jobs.packed` puts on record which cells are over.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from jobs.contract import environment as names
from jobs.contract.exit_codes import ExitCode
from jobs.contract.paths import SubmissionDir
from jobs.contract.records import BadRecord
from jobs.packed import Verdict, begin, left, read_tasks
from worker.early_signals import NOTICE_SIGNALS
from worker.failures import Misconfigured
from worker.launch import POLL_SECONDS, SignalQueue, launcher_identity, publish_launch

RESTARTS = 0  # locally nobody requeues: another run is another submission
_GPUS = "CUDA_VISIBLE_DEVICES"


@dataclass(slots=True, kw_only=True)
class RunningCell:
    """A cell's launcher."""

    index: int
    gpus: Sequence[str] | None
    launches: int = 0
    process: subprocess.Popen[bytes] = field(init=False)

    def start(self, submission: SubmissionDir) -> None:
        """Start the launcher in a session of its own: it can be ended without the others."""
        self.launches += 1
        own = {names.LOCAL_CELL: f"{submission.token}/{self.index}"}
        if self.gpus is not None:
            own[_GPUS] = ",".join(self.gpus)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        output = os.open(submission.cell_output(self.index), flags, 0o600)
        command = [sys.executable, "-P", "-m", "worker.launch"]
        command += ["--submission", str(submission.path), "--index", str(self.index), "--cell"]
        try:
            self.process = subprocess.Popen(
                command,
                env=os.environ | own,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        finally:
            os.close(output)


def run_allocation(directory: Path, allocation: int) -> int:
    """Run the cells of one allocation; return its exit code. Raises `Misconfigured`."""
    signals = SignalQueue()  # before the record: whoever reads it may signal us
    submission = SubmissionDir(directory.absolute())
    record = launcher_identity(secrets.token_hex(8))
    path = submission.launch(allocation)
    publish_launch(path, record)
    try:
        indices = begin(submission.path, allocation, RESTARTS)
    except (BadRecord, ValueError) as error:
        raise Misconfigured(str(error)) from error
    pack = read_tasks(submission).pack
    shares = gpu_shares(os.environ.get(_GPUS), pack)
    cells = [RunningCell(index=i, gpus=shares[i % pack]) for i in indices]
    for cell in cells:
        cell.start(submission)
    code = allocation_code(_wait(submission, cells, signals))
    publish_launch(path, record | {"exit_code": int(code), "ended_at": time.time()})
    return code


def gpu_shares(visible: str | None, cells: int) -> list[list[str] | None]:
    """Return each cell's part of the allocation's GPUs, equal and disjoint. Pure."""
    if visible is None:
        return [None] * cells
    gpus = [word for word in visible.split(",") if word]
    each = len(gpus) // cells
    return [gpus[n * each : (n + 1) * each] for n in range(cells)]


def allocation_code(verdicts: Sequence[Verdict]) -> ExitCode:
    """Return what an allocation leaves with: 75 while any of its cells is unfinished. Pure."""
    if Verdict.LATER in verdicts:
        return ExitCode.AGAIN
    return ExitCode.EXCEPTION if Verdict.OVER in verdicts else ExitCode.RESULT


def _wait(
    submission: SubmissionDir, cells: Sequence[RunningCell], signals: SignalQueue
) -> list[Verdict]:
    """Wait for all cells; a notice of the allocation is every cell's."""
    verdicts: list[Verdict] = []
    running, leaving = list(cells), False
    while running:
        for received in signals.take():
            leaving = leaving or received in NOTICE_SIGNALS
            for cell in running:
                with suppress(ProcessLookupError):
                    cell.process.send_signal(received)
        for cell in list(running):
            code = cell.process.poll()
            if code is None:
                continue
            verdict = _after(submission, cell, code)
            if verdict is Verdict.AGAIN_HERE and not leaving:
                cell.start(submission)
                continue
            running.remove(cell)
            verdicts.append(Verdict.LATER if verdict is Verdict.AGAIN_HERE else verdict)
        time.sleep(POLL_SECONDS)
    return verdicts


def _after(submission: SubmissionDir, cell: RunningCell, code: int) -> Verdict:
    said = 128 - code if code < 0 else code
    try:
        verdict = left(
            submission.path, cell.index, restarts=RESTARTS, launch=cell.launches, code=said
        )
    except (OSError, ValueError) as error:  # its neighbours must not fall with it
        print(f"orch: cell {cell.index} left with {said}: {error}", flush=True)  # noqa: T201
        return Verdict.OVER
    print(f"orch: cell {cell.index} left with {said}: {verdict.name}", flush=True)  # noqa: T201
    return verdict
