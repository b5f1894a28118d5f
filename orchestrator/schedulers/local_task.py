"""One task of the embedded scheduler, as files and processes.

Whether its launcher lives is asked of a flock, not of a pid: the launcher inherits the lock's
descriptor at its birth and loses it only by dying. So there is no moment, whoever is killed
when, at which a started task looks unstarted or a dead one alive; a zombie or a reused pid
cannot hold it. Signals go only to processes that prove by identity, or by the token in their
environment, that they are ours.
"""

from __future__ import annotations

import fcntl
import os
import signal
from pathlib import Path
from typing import TypeVar

from durable.files import private_dir, publish_file
from jobs.contract.paths import SubmissionDir
from jobs.contract.records import BadRecord, Record, read_record
from orchestrator.schedulers.base import TaskState
from orchestrator.schedulers.local_cell import LocalCell
from orchestrator.schedulers.local_processes import LaunchReport, kill_marked

MARKER = "ORCH_LOCAL_TASK"  # environment of a launcher and all it starts: token/index

RecordT = TypeVar("RecordT", bound=Record)


class StartRecord(Record):
    """The task was started, or is about to be."""

    boot_id: str
    at: float
    tries: int
    gpus: tuple[int, ...] = ()


class EndRecord(Record):
    """The task is over."""

    state: TaskState
    reason: str = ""
    exit_code: int | None = None
    by_person: bool = False
    pid: int | None = None


class AskRecord(Record):
    """The task was asked to end: by `cancel`, or at its time limit."""

    at: float
    cause: str  # cancel, time_limit, kill, leaving (it has written its exit code)
    told: bool = False  # the notice has reached its launcher


class LocalTask:
    """`local/tasks/<token>/NNNNN.*`."""

    def __init__(self, folder: Path, submission: SubmissionDir, index: int) -> None:
        self._folder = folder / "tasks" / submission.token
        self._submission = submission
        self.index = index
        self.marker = f"{submission.token}/{index}"

    @staticmethod
    def touched(folder: Path, submission: SubmissionDir) -> frozenset[int]:
        """Return the indices of a submission's tasks that have any record."""
        try:
            entries = list(os.scandir(folder / "tasks" / submission.token))
        except FileNotFoundError:
            return frozenset()
        return frozenset(int(e.name[:5]) for e in entries if e.name[:5].isdecimal())

    # --- records; a torn one (power cut: its processes are gone too) counts as missing

    def started(self) -> StartRecord | None:
        """Return the start, None before it."""
        return _read(self._path("start.json"), StartRecord)

    def ended(self) -> EndRecord | None:
        """Return the end, None before it."""
        return _read(self._path("end.json"), EndRecord)

    def asked(self) -> AskRecord | None:
        """Return the request to end, if there is one."""
        return _read(self._path("ask.json"), AskRecord)

    def launch(self) -> LaunchReport | None:
        """Return the launcher's own record, None before it wrote one."""
        return _read(self._submission.launch(self.index), LaunchReport)

    def write(self, record: StartRecord | EndRecord | AskRecord) -> None:
        """Publish a record of this task."""
        names = {StartRecord: "start.json", EndRecord: "end.json", AskRecord: "ask.json"}
        private_dir(self._folder)
        # Not fsynced: a power cut also ends the processes that these records are about.
        publish_file(self._path(names[type(record)]), record.to_json(), durable=False)

    # --- processes

    def take_lock(self) -> int | None:
        """Return a descriptor that holds the task's lock, None while a launcher holds it."""
        private_dir(self._folder)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(self._path("lock"), flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def launcher_lives(self) -> bool:
        """Return whether a launcher of this task is alive."""
        descriptor = self.take_lock()
        if descriptor is None:
            return True
        os.close(descriptor)
        return False

    def ask(self, *, at: float, cause: str) -> None:
        """Ask the task to end, once; repeated until a launcher has received the notice."""
        asked = self.asked() or AskRecord(at=at, cause=cause)
        if asked.told:
            return
        if asked.cause == "leaving" and cause != "leaving":
            asked = AskRecord(at=at, cause=cause)
        self.write(asked)
        if asked.cause != "leaving" and self.started() is not None and self.notify() is None:
            self.write(asked.model_copy(update={"told": True}))

    def notify(self) -> str | None:
        """Give the notice: CONT and TERM to the launcher; return why it could not be given."""
        report = self.launch()
        process = report.process() if report else None
        if process is None:
            return "its launcher has not said who it is yet"
        process.signal(signal.SIGCONT)
        return None if process.signal(signal.SIGTERM) else "its launcher is gone"

    def kill(self) -> None:
        """SIGKILL the launcher's group and every process that carries the task's marker."""
        report = self.launch()
        process = report.process() if report else None
        if process is not None:
            process.signal_group(signal.SIGKILL)
        kill_marked(f"{MARKER}={self.marker}")

    def cell(self, index: int) -> LocalCell:
        """Return one cell of a packed task."""
        return LocalCell(self._submission, index)

    def _path(self, suffix: str) -> Path:
        return self._folder / f"{self.index:05d}.{suffix}"


def _read(path: Path, kind: type[RecordT]) -> RecordT | None:
    try:
        return read_record(path, kind)
    except BadRecord:
        return None
