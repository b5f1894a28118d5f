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
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from durable.files import private_dir, publish_file
from durable.processes import ProcessIdentity
from jobs.contract.paths import SubmissionDir
from jobs.contract.records import BadRecord, Record, read_record
from orchestrator.schedulers.base import TaskState

MARKER = "ORCH_LOCAL_TASK"  # environment of a launcher and all it starts: token/index
_MAX_ENVIRONMENT = 1 << 20

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


class LaunchReport(Record):
    """What the launcher says of itself in `launch.NNNNN.json`."""

    identity: dict[str, Any]
    exit_code: int | None = None

    def process(self) -> ProcessIdentity | None:
        """Return who the launcher was."""
        boot_id, pid = self.identity.get("boot_id"), self.identity.get("pid")
        start = self.identity.get("start", self.identity.get("pid_start"))
        if isinstance(boot_id, str) and isinstance(pid, int) and isinstance(start, int):
            return ProcessIdentity(boot_id, pid, start)
        return None


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
        for descriptor in self._pidfds():
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            os.close(descriptor)

    def _pidfds(self) -> list[int]:
        """Return descriptors of the living processes that carry the marker.

        The descriptor is opened before the environment is read, so it cannot come to mean
        another process in between.
        """
        found = []
        wanted = f"{MARKER}={self.marker}".encode()
        for entry in os.scandir("/proc"):
            if not entry.name.isdecimal():
                continue
            try:
                descriptor = os.pidfd_open(int(entry.name))
            except OSError:
                continue
            if wanted in _environment(entry.path):
                found.append(descriptor)
            else:
                os.close(descriptor)
        return found

    def _path(self, suffix: str) -> Path:
        return self._folder / f"{self.index:05d}.{suffix}"


def _environment(path: str) -> list[bytes]:
    try:
        with Path(path, "environ").open("rb") as file:
            return file.read(_MAX_ENVIRONMENT).split(b"\0")
    except OSError:
        return []


def _read(path: Path, kind: type[RecordT]) -> RecordT | None:
    try:
        return read_record(path, kind)
    except BadRecord:
        return None
