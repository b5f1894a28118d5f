"""All that lies in a job's checkpoints, with its state: written, durable, verified, broken.

written: staged, without a name. durable: committed. verified: every byte was compared since, and
the files have not changed after that. broken: does not match its manifest. quarantined: put away.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from checkpoints.errors import BrokenCheckpoint
from checkpoints.inspection import quarantined
from checkpoints.manifest import Manifest
from checkpoints.remembered import Verdict, recall, remember
from checkpoints.retention import newest_first
from checkpoints.staging import STAGING, staging_epoch
from checkpoints.verification import Owner, survey, verify


class Stage(StrEnum):
    """How far a checkpoint's bytes can be trusted."""

    WRITTEN = "written"
    DURABLE = "durable"
    VERIFIED = "verified"
    BROKEN = "broken"
    QUARANTINED = "quarantined"


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One line of a listing. `manifest` is missing where it cannot be believed."""

    name: str
    stage: Stage
    manifest: Manifest | None = None
    digest: str | None = None  # the checkpoint's own
    problem: str | None = None
    verified_at: float | None = None  # wall clock, seconds


def listing(root: Path) -> list[Listed]:
    """Return what is below `checkpoints/`: staged, committed newest first, quarantined.

    Reads manifests, names and sizes. Raises OSError: cannot look.
    """
    staged = [
        Listed(name=name, stage=Stage.WRITTEN)
        for name in _names(root / STAGING)
        if staging_epoch(name) is not None
    ]
    committed = [_surveyed(root, name) for name in newest_first(_names(root))]
    away = [
        Listed(name=cell.name, stage=Stage.QUARANTINED, problem=cell.reason)
        for cell in quarantined(root)
    ]
    return [*staged, *filter(None, committed), *away]


def verified(root: Path, name: str, *, clock: Callable[[], float] = time.time) -> Listed:
    """Read every byte of a committed checkpoint from disk, remember the verdict, return it.

    Moves nothing: what rotted is put into quarantine by whoever loads it next. Raises OSError.
    """
    found = _surveyed(root, name)
    if found is None or found.manifest is None:
        return found or Listed(name=name, stage=Stage.BROKEN, problem="is missing")
    problem = None
    try:
        verify(root / name, owner=Owner(), cold=True)
    except BrokenCheckpoint as error:
        problem = str(error)
    remember(root, name, found.manifest, Verdict(at=clock(), problem=problem))
    return _surveyed(root, name) or found


def _surveyed(root: Path, name: str) -> Listed | None:
    """Return a committed checkpoint's line; None when it was pruned meanwhile."""
    try:
        surveyed = survey(root / name, owner=Owner())
    except BrokenCheckpoint as error:
        there = (root / name).is_dir()
        return Listed(name=name, stage=Stage.BROKEN, problem=str(error)) if there else None
    verdict = recall(root, name, surveyed.manifest)
    stage = Stage.DURABLE
    if verdict is not None:
        stage = Stage.VERIFIED if verdict.problem is None else Stage.BROKEN
    return Listed(
        name=name,
        stage=stage,
        manifest=surveyed.manifest,
        digest=surveyed.digest,
        problem=verdict.problem if verdict else None,
        verified_at=verdict.at if verdict else None,
    )


def _names(directory: Path) -> list[str]:
    try:
        return sorted(path.name for path in directory.iterdir())
    except FileNotFoundError:
        return []
