"""`orch logs`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from orchestrator.cli import streams
from orchestrator.cli.exits import Exit, Stop
from orchestrator.cli.options import JobSelector
from orchestrator.cli.session import open_reading, require_state, state_home

if TYPE_CHECKING:
    from jobs.contract.paths import JobDir
    from orchestrator.reader import Reader
    from orchestrator.rows import JobRow

_LOOK_SECONDS = 0.5
_STATE_LOOK_SECONDS = 2.0


def logs(
    job: JobSelector,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on, through attempts, until the job is over.")
    ] = False,
    rank: Annotated[int, typer.Option("--rank", min=0, help="Which rank's log.")] = 0,
    attempt: Annotated[
        int | None,
        typer.Option("--attempt", min=1, help="Which attempt; default: the newest."),
    ] = None,
    tail: Annotated[
        int | None,
        typer.Option("--tail", "-n", min=1, metavar="N", help="Only the last N lines."),
    ] = None,
) -> None:
    """Print the log of a job's newest attempt.

    Control characters are removed. Where no attempt has written a log, the launcher's words
    are printed.

    Examples:
      orch logs 3f2a9c1e -f
      orch logs 3f2a9c1e --attempt 1 --rank 1
    """
    home = state_home()
    require_state(home, job)
    service = open_reading(home)
    reader = _Reader(service, job, rank=rank, attempt=attempt)
    try:
        if follow:
            reader.follow(tail)
        else:
            reader.print_once(tail)
    except KeyboardInterrupt:
        streams.say("detached: the job goes on")
        raise typer.Exit(int(Exit.INTERRUPTED)) from None


def attempts_with_log(job_dir: JobDir, rank: int) -> list[int]:
    """Return the epochs that have a log of this rank, oldest first."""
    from jobs.archive import AttemptArchive

    if not job_dir.attempts.is_dir():
        return []
    names = [path.name for path in job_dir.attempts.iterdir()]
    epochs = [int(name) for name in names if name.isdecimal()]
    known = {epoch for epoch in epochs if job_dir.attempt(epoch).log(rank).exists()}
    archive = AttemptArchive(job_dir, names)
    if archive.paths:
        log = job_dir.attempt(0).log(rank).name
        known |= {epoch for epoch in archive.epochs if log in archive.files(epoch)}
    return sorted(known)


def open_log(job_dir: JobDir, path: Path) -> BinaryIO:
    """Open a log; one of an older attempt may lie in the archive. Raises OSError."""
    from jobs.archive import AttemptArchive

    try:
        return path.open("rb")
    except FileNotFoundError:
        archived = AttemptArchive.of(job_dir).open(path)
        if archived is None:
            raise
        return archived


class _Reader:
    """Prints the log of one rank; `attempt` None means the newest, whichever that becomes."""

    def __init__(self, service: Reader, job: str, *, rank: int, attempt: int | None) -> None:
        self._service = service
        self._job = job
        self._rank = rank
        self._attempt = attempt

    def _newest(self, job_dir: JobDir) -> int | None:
        known = attempts_with_log(job_dir, self._rank)
        if self._attempt is not None:
            return self._attempt if self._attempt in known else None
        return known[-1] if known else None

    def print_once(self, tail: int | None) -> None:
        from orchestrator.views.logs import LineSplitter, last_lines

        row, job_dir = self._service.job_dir(self._job)
        epoch = self._newest(job_dir)
        path = job_dir.attempt(epoch).log(self._rank) if epoch is not None else None
        if path is None:
            path = self._instead(row, job_dir)
        else:
            _say_attempt(row, epoch)
        splitter = LineSplitter()
        with open_log(job_dir, path) as file:
            for line in last_lines(file, splitter, tail):
                streams.show(line)
        for line in splitter.finish():
            streams.show(line)

    def _instead(self, row: JobRow, job_dir: JobDir) -> Path:
        """Return the launcher's output where no attempt wrote a log; raises `Stop`."""
        from orchestrator.launch_output import newest_output

        self._refuse_unknown_attempt(row, job_dir)
        path = newest_output(job_dir, scheduler_id=row.scheduler_id)
        if path is None:
            state = f"{row.name} is {row.state.value}" + (f" ({row.reason})" if row.reason else "")
            raise Stop(
                Exit.NOT_FOUND,
                f"no attempt of this job has written a log yet: {state}",
                fix=f"orch logs {row.id[:8]} -f waits for it; orch status says why it waits",
            )
        streams.say("no attempt has written a log; this is what the launcher printed", "yellow")
        return path

    def _refuse_unknown_attempt(self, row: JobRow, job_dir: JobDir) -> None:
        ranks = job_dir.attempts / f"{self._attempt or row.epoch or 0:04d}"
        if self._attempt is None and not (self._rank and ranks.is_dir()):
            return
        known = attempts_with_log(job_dir, self._rank)
        have = ", ".join(map(str, known)) or "none"
        raise Stop(
            Exit.NOT_FOUND,
            f"no log of rank {self._rank}"
            + (f" in attempt {self._attempt}" if self._attempt is not None else ""),
            fix=f"attempts with a log of this rank: {have}",
        )

    def follow(self, tail: int | None) -> None:
        """Print what is there and what comes, attempt after attempt, until the job is over."""
        from jobs.states import TERMINAL

        epoch: int | None = None
        while True:
            row, job_dir = self._service.job_dir(self._job)
            newest = self._newest(job_dir)
            if newest is not None and newest != epoch:
                epoch = newest
                _say_attempt(row, epoch)
                self._follow_file(job_dir, epoch, tail)
                tail = None
                continue
            if row.state in TERMINAL or (self._attempt is not None and newest is None):
                if epoch is None:
                    self.print_once(tail)
                streams.say(f"the job is {row.state.value}: {row.reason or 'over'}")
                return
            time.sleep(_LOOK_SECONDS)

    def _follow_file(self, job_dir: JobDir, epoch: int, tail: int | None) -> None:
        from orchestrator.views.logs import LineSplitter, last_lines, new_lines

        splitter = LineSplitter()
        with open_log(job_dir, job_dir.attempt(epoch).log(self._rank)) as file:
            for line in last_lines(file, splitter, tail):
                streams.show(line)
            looked_at = 0.0
            over = False
            while True:
                for line in new_lines(file, splitter):
                    streams.show(line)
                if over:  # what was written before the end has been read now
                    break
                now = time.monotonic()
                if now - looked_at >= _STATE_LOOK_SECONDS:
                    looked_at = now
                    over = self._is_over(job_dir, epoch)
                    continue
                time.sleep(_LOOK_SECONDS)
        for line in splitter.finish():
            streams.show(line)

    def _is_over(self, job_dir: JobDir, epoch: int) -> bool:
        from jobs.states import TERMINAL

        if self._attempt is None and self._newest(job_dir) != epoch:
            return True
        row, _ = self._service.job_dir(self._job)
        newer = self._attempt is not None and (row.epoch or 0) > epoch
        return row.state in TERMINAL or newer


def _say_attempt(row: JobRow, epoch: int | None) -> None:
    from orchestrator.views.text import clean

    streams.say(f"==> {clean(row.name)}, attempt {epoch} <==", "dim")
