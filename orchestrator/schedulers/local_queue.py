"""The embedded scheduler's queue: one durable file per submission."""

from __future__ import annotations

import time
from pathlib import Path

from durable.faults import hit
from durable.files import private_dir, publish_new
from jobs.contract.records import BadRecord, Record, read_record


class QueueEntry(Record):
    """One submission as the queue keeps it."""

    token: str
    sequence: int  # order of arrival
    directory: str  # submissions/<token>
    tasks: int
    cpus: int  # of each task
    gpus: int
    time_limit_seconds: float
    grace_seconds: float


class LocalQueue:
    """`local/queue` has what is not over, `local/done` what is."""

    def __init__(self, folder: Path) -> None:
        self._queue = folder / "queue"
        self._done = folder / "done"
        self._known: dict[str, QueueEntry] = {}

    def add(self, entry: QueueEntry) -> None:
        """Keep a submission durably; a token that is known stays as it was."""
        private_dir(self._queue)
        private_dir(self._done)
        if self.get(entry.token) is None:
            publish_new(self._path(self._queue, entry.token), entry.to_json())
        hit("local.queued")

    def get(self, token: str) -> QueueEntry | None:
        """Return a submission, over or not; None when it was never queued."""
        if token not in self._known:
            if not token.isalnum():
                return None
            for folder in (self._queue, self._done):
                entry = read_record(self._path(folder, token), QueueEntry)
                if entry is not None:
                    self._known[token] = entry
                    break
        return self._known.get(token)

    def open(self) -> list[QueueEntry]:
        """Return the submissions that are not over, in the order of arrival."""
        try:
            tokens = [p.stem for p in self._queue.iterdir() if p.suffix == ".json"]
        except FileNotFoundError:
            return []
        entries = []
        for token in tokens:
            try:
                entry = self.get(token)
            except BadRecord:
                continue  # a power cut may leave an empty file; `find` answers for its token
            if entry is not None:
                entries.append(entry)
        return sorted(entries, key=lambda entry: (entry.sequence, entry.token))

    def retire(self, token: str) -> None:
        """All tasks of this submission are over."""
        self._path(self._queue, token).rename(self._path(self._done, token))

    @staticmethod
    def next_sequence() -> int:
        """Return a number that grows with time."""
        return time.time_ns()

    @staticmethod
    def _path(folder: Path, token: str) -> Path:
        return folder / f"{token}.json"
