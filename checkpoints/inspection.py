"""What a person sees of a job's checkpoints. Read only: nothing is moved, nothing is repaired."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from checkpoints.errors import BrokenCheckpoint
from checkpoints.quarantine import QUARANTINE, REASON
from checkpoints.retention import newest_first
from checkpoints.verification import Owner, Surveyed, canonical_name, survey, verify

_MAX_REASON_BYTES = 1 << 20
Check = Callable[[Path], Surveyed]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One checkpoint: what it has, or what is wrong with it."""

    name: str
    surveyed: Surveyed | None
    problem: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantined:
    """One checkpoint in quarantine, and why it is there."""

    name: str
    reason: str


def shallow(path: Path) -> Surveyed:
    """Check manifest, names and sizes (`ls`)."""
    return survey(path, owner=Owner())


def deep(path: Path) -> Surveyed:
    """Check every byte (`verify`)."""
    return verify(path, owner=Owner())


def checkpoint_paths(directory: Path) -> list[Path]:
    """Return the checkpoints that `directory` stands for, newest first.

    It may be a job's directory, its `checkpoints/`, or one checkpoint. Raises FileNotFoundError.
    """
    if canonical_name(directory.name) is not None:
        return [directory]
    inner = directory / "checkpoints"
    root = inner if inner.is_dir() else directory
    return [root / name for name in newest_first(entry.name for entry in root.iterdir())]


def findings(paths: Iterable[Path], check: Check) -> Iterator[Finding]:
    """Check each path; one that was pruned meanwhile is left out. Raises OSError: cannot look."""
    for path in paths:
        try:
            yield Finding(name=path.name, surveyed=check(path), problem=None)
        except BrokenCheckpoint as problem:
            if path.is_symlink() or path.exists():
                yield Finding(name=path.name, surveyed=None, problem=str(problem))


def quarantined(directory: Path) -> list[Quarantined]:
    """Return what lies in quarantine below a job's directory or its `checkpoints/`."""
    for root in (directory / "checkpoints" / QUARANTINE, directory / QUARANTINE):
        if root.is_dir():
            return [
                Quarantined(name=ascii(cell.name)[1:-1], reason=_reason(cell / REASON))
                for cell in sorted(root.iterdir())
            ]
    return []


def _reason(path: Path) -> str:
    try:
        with path.open("rb") as file:
            record = json.loads(file.read(_MAX_REASON_BYTES))
        problem = BrokenCheckpoint(
            record["reason"],
            record["file"],
            expected=record.get("expected"),
            found=record.get("found"),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return f"no readable {REASON}"
    return _printable(str(problem))


def _printable(text: str) -> str:
    """Escape what could move a terminal's cursor: a file's name is not ours."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def line(found: Finding) -> str:
    """Return one line about a checkpoint."""
    if found.surveyed is None:
        return f"{found.name}  BROKEN  {_printable(found.problem or '')}"
    manifest = found.surveyed.manifest
    ranks = "1 rank" if manifest.world_size == 1 else f"{manifest.world_size} ranks"
    return (
        f"{found.name}  ok  {manifest.kind}, {ranks}, {len(manifest.files)} files,"
        f" {manifest.total_bytes:,} bytes, {found.surveyed.digest[:19]}"
    )
