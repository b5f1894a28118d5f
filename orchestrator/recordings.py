"""What a scheduler's commands really said, kept so that a decision can be made again later.

`recordings/NNNN.jsonl` in the state directory: one JSON object a line, at most `FILES` files of
`FILE_BYTES`, the oldest removed first. A line is written only when something was heard that the
last line does not have already, and holds

- `taken_at` (wall clock), `scheduler`, `unreachable`, `repeated` (equal looks before this one);
- `packed`: base64 of the zlib-compressed JSON `{"heard": [...], "cases": [...], "left_out": n}`:
  `heard` has each command's argv, exit code or why it broke, stdout, stderr, and their digest, with
  the marks of the rows replaced by fixed ones (they are drawn anew for each call);
  `cases` has what a decision was made from for each job that was decided about: our view before,
  what its directory said, the moment, and the decision's kinds; `left_out` counts the others.

Nothing in it is secret: squeue and sacct are asked for ids, states, reasons, nodes, times, names
and comments of this user's own jobs, which the cluster shows anyway; specs and exit records are in
the job directories beside it. The files are private all the same (0600).
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from durable.files import private_dir
from jobs.contract.paths import StateDir
from orchestrator.facts import Evidence, JobFacts

FILES = 8
FILE_BYTES = 1 << 20
TEXT_CHARS = 8 << 20  # of one stdout; a listing of 40,000 tasks
CASES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class HeardText:
    """One command and what it said; `broken` says why it has no exit code."""

    argv: tuple[str, ...]
    code: int | None
    out: str
    err: str
    broken: str | None = None
    cut: bool = False  # `out` is not whole
    digest: str = ""  # sha256 of the whole stdout and stderr


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedCase:
    """All that one decision was made from besides the answer, and which actions it gave."""

    job: JobFacts
    evidence: Evidence
    now: float
    resumed: bool
    decided: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """One look and what followed from it."""

    taken_at: float
    scheduler: str
    heard: tuple[HeardText, ...]
    cases: tuple[RecordedCase, ...]
    unreachable: str | None = None
    repeated: int = 0
    left_out: int = 0


_RECORDING = TypeAdapter(Recording)
_PACKED = ("heard", "cases", "left_out")


def encode(recording: Recording) -> bytes:
    """Return a recording as one line."""
    values: dict[str, Any] = json.loads(_RECORDING.dump_json(recording))
    packed = json.dumps({key: values.pop(key) for key in _PACKED}).encode()
    line = {"schema_version": 1, **values, "packed": base64.b64encode(zlib.compress(packed, 1))}
    line["packed"] = line["packed"].decode()
    return json.dumps(line).encode() + b"\n"


def decode(line: bytes) -> Recording:
    """Return the recording of a line. Raises ValueError for anything else."""
    values = json.loads(line)
    try:
        packed = zlib.decompress(base64.b64decode(values.pop("packed")))
    except (KeyError, AttributeError, zlib.error) as error:
        raise ValueError(f"not a recording: {error}") from error
    return _RECORDING.validate_json(json.dumps({**values, **json.loads(packed)}))


def digest_of(heard: Sequence[HeardText]) -> str:
    """Return what tells two looks apart: everything that was said."""
    whole = hashlib.sha256()
    for one in heard:
        whole.update(f"{one.argv[:1]}{one.code}{one.broken}{one.digest}\0".encode())
    return whole.hexdigest()


class Recordings:
    """The recordings of one state directory."""

    def __init__(self, state: StateDir) -> None:
        self._folder = state.path / "recordings"
        self._last: tuple[str, int] | None = None  # digest, decided cases
        self._repeated = 0

    def add(self, recording: Recording) -> bool:
        """Append a recording unless it says what the last one said; return whether it was."""
        key = (digest_of(recording.heard), len(recording.cases))
        if key == self._last and not recording.cases:
            self._repeated += 1
            return False
        line = encode(_with(recording, repeated=self._repeated))
        path = self._file(len(line))
        with open(path, "ab", opener=_private) as file:
            if file.tell() and not _ends_whole(path):
                line = b"\n" + line  # a writer died in the middle of its line
            file.write(line)
        self._last, self._repeated = key, 0
        return True

    def _file(self, room: int) -> Path:
        private_dir(self._folder)
        names = self._names()
        if names and (self._folder / names[-1]).stat().st_size + room <= FILE_BYTES:
            return self._folder / names[-1]
        number = int(names[-1].partition(".")[0]) + 1 if names else 1
        for name in names[: max(0, len(names) + 1 - FILES)]:
            (self._folder / name).unlink(missing_ok=True)
        return self._folder / f"{number:04d}.jsonl"

    def _names(self) -> list[str]:
        found = [path.name for path in self._folder.glob("*.jsonl") if path.stem.isdigit()]
        return sorted(found, key=lambda name: int(name.partition(".")[0]))

    def read(self) -> Iterator[Recording]:
        """Yield all recordings, oldest first; lines that are none are passed over."""
        for name in self._names():
            for line in (self._folder / name).read_bytes().splitlines():
                try:
                    yield decode(line)
                except ValueError:
                    continue


def _with(recording: Recording, *, repeated: int) -> Recording:
    return replace(recording, repeated=repeated)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _ends_whole(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
