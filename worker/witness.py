"""How long a machine was left after a preemption notice: what a killed attempt cannot say itself.

After the notice a file of the attempt is touched until the attempt leaves. Who leaves takes it
away and writes an exit record; who is killed leaves the file, and its last touch is the instant
of the kill. It is evidence of the grace time, never of life: a hung main thread touches it, too.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from durable.files import publish_file
from jobs.archive import AttemptArchive
from jobs.contract.paths import JobDir
from jobs.contract.records import BadRecord, NoticedRecord, StopCause, read_record
from jobs.history import read_history
from worker.deadline import Lived

TOUCH_SECONDS = 0.25


class Witness:
    """Touches an attempt's `noticed.json` from the notice until the end (rank 0)."""

    def __init__(self, path: Path, *, wall: Callable[[], float] = time.time) -> None:
        self._path, self._wall = path, wall
        self._over = threading.Event()
        self._begun = False

    def begin(self, *, epoch: int, cause: str, noticed_at: float) -> None:
        """Begin to touch. A disk that refuses costs this knowledge only."""
        record = NoticedRecord(epoch=epoch, cause=cause, noticed_at=noticed_at)
        try:
            publish_file(self._path, record.to_json(), durable=False)
        except OSError:
            return
        self._begun = True
        threading.Thread(target=self._run, name="witness", daemon=True).start()

    def touch(self) -> None:
        """Say that the machine is still there. By this machine's clock, as the notice is."""
        now = self._wall()
        os.utime(self._path, (now, now))

    def end(self) -> None:
        """The attempt leaves by itself; its exit record says how long it had."""
        self._over.set()
        if self._begun:
            with suppress(OSError):
                self._path.unlink(missing_ok=True)

    def _run(self) -> None:
        with suppress(OSError):
            while not self._over.wait(TOUCH_SECONDS):
                self.touch()


def lived_after_notice(job: JobDir, *, before_epoch: int) -> list[Lived]:
    """Return how long earlier attempts were there after a preemption notice, oldest first."""
    lived = []
    for attempt in read_history(job).attempts:
        if attempt.epoch >= before_epoch:
            continue
        seconds = [
            record.seconds_from_notice
            for record in attempt.exits
            if record.cause is StopCause.PREEMPTION and record.seconds_from_notice is not None
        ]
        if seconds:
            lived.append(Lived(epoch=attempt.epoch, seconds=max(seconds), killed=False))
        elif not attempt.exits:
            killed = _killed_after(job, job.attempt(attempt.epoch).noticed)
            if killed is not None:
                lived.append(Lived(epoch=attempt.epoch, seconds=killed, killed=True))
    return lived


def _killed_after(job: JobDir, path: Path) -> float | None:
    try:
        record, touched = read_record(path, NoticedRecord), None
        if record is not None:
            touched = path.stat().st_mtime
        else:
            archive = AttemptArchive.of(job)
            record, touched = archive.record(path, NoticedRecord), archive.modified(path)
        if record is None or touched is None or record.cause != StopCause.PREEMPTION:
            return None
        return max(0.0, touched - record.noticed_at)
    except (BadRecord, OSError):
        return None
