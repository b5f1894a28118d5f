"""Is a checkpoint, to the byte, what its manifest says? Cheap checks first, digests last."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from checkpoints.errors import BrokenCheckpoint
from checkpoints.manifest import MANIFEST, FileEntry, Manifest, decode_manifest, digest_of
from checkpoints.reading import check_entry, check_size, evidence, open_within, read_manifest_bytes
from durable import faults
from jobs.contract.paths import checkpoint_name, parse_checkpoint_name

# safetensors: 8 bytes little-endian length of the header, the header, the tensors.
_HEADER_LENGTH_BYTES = 8
MAX_HEADER_BYTES = 100 << 20
_READERS = min(8, os.cpu_count() or 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Whose checkpoints these must be; None: not checked (inspection by people)."""

    job: str | None = None
    spec_digest: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Surveyed:
    """A checkpoint whose manifest, tree and sizes are right; its contents are not checked."""

    manifest: Manifest
    digest: str  # of the manifest file: the checkpoint's own digest


def canonical_name(name: str) -> tuple[int, int] | None:
    """Return `(epoch, step)` of a checkpoint's directory name, None for any other spelling."""
    parsed = parse_checkpoint_name(name)
    if parsed is None or checkpoint_name(epoch=parsed[0], step=parsed[1]) != name:
        return None
    return parsed


def survey(root: Path, *, owner: Owner) -> Surveyed:
    """Check everything but the contents. Raises `BrokenCheckpoint`, or OSError: could not look."""
    _check_is_directory(root)
    data = read_manifest_bytes(root)
    manifest = decode_manifest(data)
    _check_identity(root.name, manifest, owner)
    check_tree(root, manifest.files, others=(MANIFEST,))
    return Surveyed(manifest=manifest, digest=digest_of(data))


def verify(root: Path, *, owner: Owner, cold: bool = False) -> Surveyed:
    """Check every byte, several files at once. Raises `BrokenCheckpoint`, or OSError: cannot look.

    `cold`: past the page cache, where the system allows it. Of several damages, the first in the
    manifest's order is raised.
    """
    surveyed = survey(root, owner=owner)
    files = surveyed.manifest.files
    faults.hit("verify.before_contents")

    def check(entry: FileEntry) -> None:
        _check_header_length(root, entry)
        check_entry(root, entry, cold=cold)

    # hashlib lets other threads run while it hashes.
    with ThreadPoolExecutor(min(len(files), _READERS)) as pool:
        for _ in pool.map(check, files):
            pass
    return surveyed


def check_tree(root: Path, entries: Iterable[FileEntry], *, others: Iterable[str] = ()) -> None:
    """Raise `BrokenCheckpoint` unless exactly these files are there, in these sizes.

    `others` are files whose size is not known here. Links and special files are refused.
    """
    wanted = {entry.path: entry for entry in entries}
    directories = _directories(wanted)
    for entry in wanted.values():
        with evidence(entry.path):
            status = (root / entry.path).lstat()
        if stat.S_ISREG(status.st_mode):  # links and the like are named below
            check_size(entry, status.st_size)
    allowed = {*wanted, *others}
    for name, is_directory, is_file in _walk(root, directories):
        if is_directory and name in directories:
            continue
        if not is_file:
            raise BrokenCheckpoint("is neither a file nor a directory of the manifest", name)
        if name not in allowed:
            raise BrokenCheckpoint("is not in the manifest", name)


def _directories(paths: Iterable[str]) -> set[str]:
    """Return the directories of all paths, also those that hold only directories."""
    found: set[str] = set()
    for path in paths:
        above = path.rpartition("/")[0]
        while above and above not in found:
            found.add(above)
            above = above.rpartition("/")[0]
    return found


def _walk(root: Path, directories: Iterable[str]) -> Iterable[tuple[str, bool, bool]]:
    for relative in ("", *sorted(directories)):
        with evidence(relative), os.scandir(root / relative) as entries:
            for entry in entries:
                name = f"{relative}/{entry.name}" if relative else entry.name
                yield (
                    name,
                    entry.is_dir(follow_symlinks=False),
                    entry.is_file(follow_symlinks=False),
                )


def _check_is_directory(root: Path) -> None:
    with evidence(""):
        mode = root.lstat().st_mode
    if stat.S_ISLNK(mode):
        raise BrokenCheckpoint("the checkpoint is a symbolic link", "")
    if not stat.S_ISDIR(mode):
        raise BrokenCheckpoint("the checkpoint is not a directory", "")


def _check_identity(name: str, manifest: Manifest, owner: Owner) -> None:
    for what, expected, found in (
        ("the directory's name", manifest.name, name),
        ("the job", owner.job, manifest.job),
        ("the spec's digest", owner.spec_digest, manifest.spec_digest),
    ):
        if expected is not None and expected != found:
            raise BrokenCheckpoint(
                f"{what} differs: this checkpoint belongs elsewhere",
                MANIFEST,
                expected=expected,
                found=ascii(found),
            )


def _check_header_length(root: Path, entry: FileEntry) -> None:
    """Bound what a reader of safetensors would allocate for the header."""
    if not entry.path.endswith(".safetensors"):
        return
    with open_within(root, entry.path) as (file, size):
        length = int.from_bytes(file.read(_HEADER_LENGTH_BYTES), "little")
    limit = min(MAX_HEADER_BYTES, size - _HEADER_LENGTH_BYTES)
    if length > limit:
        raise BrokenCheckpoint(
            "header is longer than allowed",
            entry.path,
            offset=0,
            expected=f"<= {limit} bytes",
            found=f"{length} bytes",
        )
