"""Snapshots of the users' code in the state directory: copied at submission, never changed.

`code/<digest>/` is shared by all jobs whose code has that digest. It is copied, checked to be
what the matrix was expanded from, made read-only and published by one rename, before any spec
that names it: a job never waits for code that is not there.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from durable.faults import hit
from durable.files import TEMPORARY_SUFFIX, AlreadyThere, private_dir, publish_dir, write_durable
from jobs.contract.paths import StateDir
from jobs.snapshot import CodeFile, CodeRefused, code_digest, collect, snapshot_digest
from jobs.spec import CommandSemantic, JobSpec


def publish_snapshots(state: StateDir, specs: Iterable[JobSpec]) -> None:
    """Copy the code of all jobs that is not there yet. Idempotent.

    Raises `CodeRefused` when files changed since the matrix was read, or a snapshot that lies
    there was changed; OSError.
    """
    for digest, (base_dir, names) in _wanted(specs).items():
        directory = state.snapshot(digest)
        if directory.is_dir():
            _check_unchanged(directory, digest)
            continue
        files = collect(base_dir, names)
        if code_digest(files) != digest:
            raise _changed(names)
        _publish(state, directory, files, digest, names)


def _wanted(specs: Iterable[JobSpec]) -> dict[str, tuple[Path, Sequence[str]]]:
    wanted: dict[str, tuple[Path, Sequence[str]]] = {}
    for spec in specs:
        digest = spec.semantic.code_digest
        if digest is not None and digest not in wanted:
            wanted[digest] = (Path(spec.run.base_dir or "."), code_names(spec))
    return wanted


def code_names(spec: JobSpec) -> Sequence[str]:
    """Return the files and directories of a job's own code, as the matrix names them."""
    semantic = spec.semantic
    if isinstance(semantic, CommandSemantic):
        return semantic.command.code
    return () if semantic.task.code is None else (semantic.task.code,)


def _publish(
    state: StateDir, directory: Path, files: Sequence[CodeFile], digest: str, names: Sequence[str]
) -> None:
    private_dir(state.code)
    staged = state.code / f".{directory.name[:16]}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}"
    staged.mkdir(mode=0o700)
    try:
        for file in files:
            target = staged / file.path
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_durable(target, file.source.read_bytes())
            target.chmod(0o500 if file.executable else 0o400)
        # What was copied counts, not what was hashed before: an editor may save at any moment.
        if snapshot_digest(staged) != digest:
            raise _changed(names)
        hit("snapshot.copied")
        publish_dir(staged, directory, before_rename=lambda: _read_only(staged))
    except AlreadyThere:  # another submission of the same code was quicker
        _discard(staged)
        _check_unchanged(directory, digest)
    except BaseException:
        _discard(staged)
        raise


def _read_only(directory: Path) -> None:
    """Take the right to write from all directories below (their files are read-only already)."""
    for folder, directories, _ in os.walk(directory):
        for name in directories:
            Path(folder, name).chmod(0o500)


def _discard(staged: Path) -> None:
    for folder, directories, _ in os.walk(staged):
        for name in directories:
            Path(folder, name).chmod(0o700)
    shutil.rmtree(staged, ignore_errors=True)


def _check_unchanged(directory: Path, digest: str) -> None:
    if snapshot_digest(directory) != digest:
        raise CodeRefused(
            f"{directory} is not the code that it was made from: somebody changed it",
            "move it away and submit again: a fresh snapshot is taken; jobs that were"
            " submitted with it run again then",
        )


def _changed(names: Sequence[str]) -> CodeRefused:
    return CodeRefused(
        f"the code ({', '.join(names)}) changed while it was being submitted",
        "submit again when nobody edits it",
    )
