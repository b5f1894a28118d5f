"""What older attempts of a job have left, in one file instead of many: names and reading.

`attempts/archive.eNNNN.zip` holds, under their paths in the job directory, the files of attempts
before NNNN and their claims. An archive has all that those before it had; where a file still lies
at its own place, that one counts. Readers need nothing but this class.
"""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path, PurePosixPath

from jobs.contract.paths import JobDir
from jobs.contract.records import MAX_RECORD_BYTES, BadRecord, RecordT, decode_record

ARCHIVE = re.compile(r"archive\.e(\d{4,})\.zip")
MAX_FILE_BYTES = 8 << 20  # what is larger stays where it is
_CLAIM = re.compile(r"epochs/(\d{4,})\.json")
_MEMBER = re.compile(r"attempts/(\d{4,})/(.+)")


def archive_name(epoch: int) -> str:
    """Return the name of the archive that the attempt of this epoch makes."""
    return f"archive.e{epoch:04d}.zip"


class AttemptArchive:
    """The archives of one job, the newest first. Cheap until something is asked for."""

    def __init__(self, job: JobDir, names: Iterable[str]) -> None:
        """`names`: what lies in `attempts/`."""
        found = sorted((int(m[1]), n) for n in names if (m := ARCHIVE.fullmatch(n)))
        self._job = job
        self.paths = [job.attempts / name for _, name in reversed(found)]

    @classmethod
    def of(cls, job: JobDir) -> AttemptArchive:
        """Look which archives there are. Raises OSError."""
        try:
            return cls(job, [path.name for path in job.attempts.iterdir()])
        except (FileNotFoundError, NotADirectoryError):
            return cls(job, ())

    @property
    def epochs(self) -> set[int]:
        """The epochs of which something is archived."""
        matches = (_CLAIM.fullmatch(n) or _MEMBER.fullmatch(n) for n in self._where)
        return {int(match[1]) for match in matches if match}

    def files(self, epoch: int) -> list[str]:
        """Return the names of an attempt's archived files, relative to its directory."""
        matches = (_MEMBER.fullmatch(name) for name in self._where)
        return sorted(m[2] for m in matches if m and int(m[1]) == epoch)

    def read(self, path: Path, *, limit: int = MAX_FILE_BYTES) -> bytes | None:
        """Return an archived file by its path in the job directory, at most `limit` bytes.

        None where there is none. Raises `BadRecord` when the archive is damaged, OSError.
        """
        found = self._find(path)
        if found is None:
            return None
        try:
            with zipfile.ZipFile(found[0]) as archive, archive.open(found[1]) as file:
                return file.read(limit)
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
            raise BadRecord(f"{found[0]}: {found[1].filename}: {error}") from error

    def open(self, path: Path) -> io.BytesIO | None:
        """Return an archived file to read from."""
        data = self.read(path)
        return None if data is None else io.BytesIO(data)

    def record(self, path: Path, kind: type[RecordT]) -> RecordT | None:
        """Return an archived record, None where there is none. Raises `BadRecord`."""
        data = self.read(path, limit=MAX_RECORD_BYTES + 1)
        return None if data is None else decode_record(data, kind, path)

    def modified(self, path: Path) -> float | None:
        """Return when an archived file was written last, wall clock seconds."""
        found = self._find(path)
        try:
            return None if found is None else float(found[1].comment)
        except ValueError:
            return None

    def members(self) -> Mapping[str, tuple[Path, zipfile.ZipInfo]]:
        """Return every archived file, with the archive that has it."""
        return self._where

    @property
    def damaged(self) -> set[Path]:
        """The archives whose table of contents cannot be read."""
        return self._contents[1]

    def _find(self, path: Path) -> tuple[Path, zipfile.ZipInfo] | None:
        if not self.paths:
            return None
        return self._where.get(str(PurePosixPath(path.relative_to(self._job.path))))

    @property
    def _where(self) -> dict[str, tuple[Path, zipfile.ZipInfo]]:
        return self._contents[0]

    @cached_property
    def _contents(self) -> tuple[dict[str, tuple[Path, zipfile.ZipInfo]], set[Path]]:
        where: dict[str, tuple[Path, zipfile.ZipInfo]] = {}
        damaged = set()
        for path in reversed(self.paths):  # newer ones overrule
            try:
                with zipfile.ZipFile(path) as archive:
                    where |= {info.filename: (path, info) for info in archive.infolist()}
            except (OSError, zipfile.BadZipFile):  # as a record that cannot be read
                damaged.add(path)
        return where, damaged
