"""Scores that are durable while an evaluation runs, so that what was scored stays scored.

Each rank appends the scores of its finished batches to a file of its own attempt. The next attempt
takes over what is of the very same evaluation: same weights, data, split and batches, which the key
says. A batch counts only when every example of it is there, since what shares a batch may share
roundings; so the outcome is bit for bit that of an evaluation that nothing interrupted.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from durable.faults import hit
from durable.files import private_dir
from durable.regular import read_regular
from jobs.archive import AttemptArchive
from jobs.contract.paths import JobDir
from jobs.contract.records import BadRecord
from jobs.spec import canonical_json
from worker.claim import epochs
from worker.growing_file import GrowingFile

FORMAT = 1  # grows when equal keys may give other scores
MAX_BYTES = 1 << 30
# An append may cost a file server's round trip: it must not show beside the forward passes.
SHARE_OF_TIME = 0.05
MAX_SECONDS = 2.0  # of scores that a kill without notice takes away, unless a batch takes longer

Row = tuple[int, float, int, bool, str | None]  # index, nll, tokens, correct, prediction
log = logging.getLogger("orch")


def evaluation_key(**parts: str | int | None) -> str:
    """Return what names an evaluation; equal parts give equal scores."""
    return hashlib.sha256(canonical_json({"format": FORMAT, **parts})).hexdigest()[:32]


class KeptScores:
    """The durable scores of one evaluation, as one rank of one attempt sees them."""

    def __init__(
        self,
        job: JobDir,
        *,
        epoch: int,
        rank: int,
        name: str,
        key: str,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._job, self._epoch, self._name, self._key = job, epoch, name, key
        self._directory = job.attempt(epoch).predictions
        self._file = GrowingFile(self._directory / f"{name}.r{rank:05d}.jsonl")
        self._waiting: list[Row] = []
        self._monotonic = monotonic
        self._due = float("-inf")
        self._failed = False

    def earlier(self, *, expected: int) -> dict[int, Row]:
        """Return the scores that attempts up to this one have kept, by example.

        Where two have one, the older counts: it was there first. What is torn, damaged or of
        another evaluation is left out, never an error: it is scored again.
        """
        found: dict[int, Row] = {}
        for data in self._files():
            for row in decode(data, key=self._key):
                if 0 <= row[0] < expected:
                    found.setdefault(row[0], row)
        return found

    def add(self, rows: Iterable[Row]) -> bool:
        """Take the scores of a batch; make all that wait durable when that is due, and say so."""
        self._waiting += rows
        if self._monotonic() < self._due:
            return False
        return self.flush()

    def flush(self) -> bool:
        """Make all scores durable; tell whether they are.

        A full disk ends no evaluation: the scores stay in memory and are tried again.
        """
        if not self._waiting:
            return True
        start = self._monotonic()
        head = _line({"format": FORMAT, "key": self._key}) if self._file.empty else b""
        try:
            hit("scores.before_append")
            private_dir(self._directory)
            self._file.append(head + encode(self._waiting, key=self._key))
        except OSError as error:
            if not self._failed:
                log.warning("scores are not kept for a later attempt: %s", error)
            self._failed = True
        else:
            self._waiting.clear()
            self._failed = False
        end = self._monotonic()
        self._due = end + min(MAX_SECONDS, (end - start) / SHARE_OF_TIME)
        return not self._failed

    def discard(self) -> None:
        """Take this attempt's files away: all that they say has been published (rank 0)."""
        with suppress(OSError):
            for path in self._directory.glob("*.r*.jsonl"):
                path.unlink(missing_ok=True)

    def _files(self) -> Iterator[bytes]:
        try:
            archive = AttemptArchive.of(self._job)
            known = sorted(e for e in {*epochs(self._job), *archive.epochs} if e <= self._epoch)
        except OSError as error:
            log.warning("no scores of earlier attempts: %s", error)
            return
        pattern = re.compile(rf"{re.escape(self._name)}\.r\d{{5,}}\.jsonl")
        for epoch in known:
            directory = self._job.attempt(epoch).predictions
            names = {*_names(directory), *(Path(n).name for n in archive.files(epoch))}
            for name in sorted(filter(pattern.fullmatch, names)):
                data = _content(directory / name, archive)
                if data is not None:
                    yield data


def whole_batches(batches: Sequence[range], indices: Iterable[int]) -> set[int]:
    """Return the numbers of the batches of which every example is among `indices`. Pure."""
    there = frozenset(indices)
    return {number for number, batch in enumerate(batches) if there.issuperset(batch)}


def encode(rows: Iterable[Row], *, key: str) -> bytes:
    """Return lines, each with a checksum over its row and the key."""
    return b"".join(_line({"row": row, "sum": _checksum(row, key)}) for row in rows)


def decode(data: bytes, *, key: str) -> Iterator[Row]:
    """Yield the rows of a file's content that are whole and of the evaluation that `key` names."""
    for line in data.split(b"\n")[:-1]:  # without its newline the last one is torn
        try:
            value = json.loads(line)
        except ValueError:
            continue
        row = _row(value.get("row")) if isinstance(value, dict) else None
        if row is not None and value.get("sum") == _checksum(row, key):
            yield row


def _row(value: object) -> Row | None:
    match value:
        case [int(index), float(nll), int(tokens), bool(correct), (str() | None) as prediction]:
            return (index, nll, tokens, correct, prediction)
    return None


def _checksum(row: Row, key: str) -> int:
    return zlib.crc32(_line([key, *row]))


def _line(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=True).encode() + b"\n"


def _names(directory: Path) -> list[str]:
    try:
        return [path.name for path in directory.iterdir()]
    except OSError:
        return []


def _content(path: Path, archive: AttemptArchive) -> bytes | None:
    try:
        return read_regular(path, limit=MAX_BYTES)
    except FileNotFoundError:
        pass
    except OSError as error:
        log.warning("%s: its scores are not used: %s", path, error)
        return None
    try:
        return archive.read(path)
    except (BadRecord, OSError) as error:
        log.warning("%s: its scores are not used: %s", path, error)
        return None
