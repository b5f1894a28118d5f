"""Keeping a job's files few: what attempts before this one left goes into one archive.

Done by rank 0 at the begin of an attempt, and when there is a result, where the job has too many
files: a filesystem's quota counts them, and checkpoints and quarantine have theirs. The archive is
durable before anything that it has is taken away, and it has all that earlier archives had. Nothing
is lost: `jobs.archive` reads it, and so does `unzip`.
"""

from __future__ import annotations

import io
import logging
import os
import stat
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from durable.faults import hit
from durable.files import fsync_dir, publish_file
from jobs.archive import MAX_FILE_BYTES, AttemptArchive, archive_name
from jobs.contract.paths import JobDir
from jobs.contract.records import BadRecord
from worker.claim import epochs

# For two ranks. A running job makes some thirty more: this attempt's, and those of the next saves.
MAX_FILES = 60
MAX_FILES_FINISHED = 40
log = logging.getLogger("orch")


def fold_older(job: JobDir, epoch: int, *, ranks: int, finished: bool) -> int:
    """Fold attempts before `epoch` into its archive; return how many files went in (rank 0).

    While the job runs the attempt just before stays as it is: it may still be looked at, or write
    its last words. A failure is logged: it costs files, nothing else.
    """
    try:
        older = _lying(job, epoch)
        most = (MAX_FILES_FINISHED if finished else MAX_FILES) * max(1, ranks / 2)
        if not older or count_files(job) <= most:
            return 0
        return _fold(job, epoch, older if finished else older[:-1])
    except (OSError, BadRecord, zipfile.BadZipFile) as error:
        log.warning("older attempts are not folded: %s", error)
        return 0


def count_files(job: JobDir) -> int:
    """Return how many files a job has, checkpoints and quarantine counted."""
    places = [job.path]
    if job.checkpoints.is_symlink():
        places.append(job.checkpoints.resolve())
    return sum(len(names) for place in places for _, _, names in os.walk(place))


def _lying(job: JobDir, epoch: int) -> list[int]:
    """Return the attempts before `epoch` of which something lies open, or did until a crash."""
    names = [path.name for path in job.attempts.iterdir()]
    return sorted(
        number
        for number in {*epochs(job), *(int(name) for name in names if name.isdecimal())}
        if number < epoch
    )


def _fold(job: JobDir, epoch: int, older: list[int]) -> int:
    earlier, target = AttemptArchive.of(job), job.attempts / archive_name(epoch)
    if target in earlier.damaged:
        raise BadRecord(f"{target}: is damaged, and stays as it is")
    files = list(_files(job, older))
    members: dict[str, tuple[bytes, float]] = {}
    for name in earlier.members():
        path = job.path / name
        data = earlier.read(path)
        if data is not None:
            members[name] = (data, earlier.modified(path) or 0.0)
    read: dict[Path, tuple[int, int]] = {}
    for path, modified in files:
        read[path] = _state(path)
        members[str(path.relative_to(job.path))] = (path.read_bytes(), modified)
    publish_file(target, _zipped(members))
    hit("folding.after_publish")
    # Claims first: where one is missing, readers look into the archive for the rest, too.
    for place in (job.epochs, job.attempts):
        for path, state in read.items():
            if path.is_relative_to(place):
                with suppress(FileNotFoundError):
                    if _state(path) == state:  # else somebody has said more meanwhile
                        path.unlink()
                hit("folding.after_remove")
        fsync_dir(place)
    for path in earlier.paths:
        if path != target and path not in earlier.damaged:
            path.unlink(missing_ok=True)
    for number in older:
        _remove_empty(job.attempt(number).path)
    return len(files)


def _state(path: Path) -> tuple[int, int]:
    """Return what changes when something is written to a file."""
    status = path.lstat()
    return status.st_size, status.st_mtime_ns


def _files(job: JobDir, older: list[int]) -> Iterator[tuple[Path, float]]:
    """Yield the regular files that fit, with the time of their last writing."""
    for number in older:
        found = [job.epoch(number)]
        for folder, _, names in os.walk(job.attempt(number).path):
            found += [Path(folder) / name for name in names]
        for path in sorted(found):
            with suppress(FileNotFoundError):
                status = path.lstat()
                if stat.S_ISREG(status.st_mode) and status.st_size <= MAX_FILE_BYTES:
                    yield path, status.st_mtime


def _zipped(members: dict[str, tuple[bytes, float]]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, (data, modified) in sorted(members.items()):
            info = zipfile.ZipInfo(name)
            info.external_attr = (stat.S_IFREG | 0o600) << 16  # as `unzip` makes them
            info.comment = repr(modified).encode()  # zip's own times have two seconds
            archive.writestr(info, data, zipfile.ZIP_DEFLATED)
    return made.getvalue()


def _remove_empty(folder: Path) -> None:
    for path, _, _ in os.walk(folder, topdown=False):
        with suppress(OSError):  # something is left in it
            Path(path).rmdir()
