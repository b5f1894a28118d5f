"""Removing directories so that a crash in the middle leaves nothing that looks like a checkpoint.

First a rename into `trash/` (atomic: it is there whole, or it is gone), then the deletion. What a
crash leaves in `trash/` is swept by the next attempt.
"""

from __future__ import annotations

import secrets
import shutil
from contextlib import suppress
from pathlib import Path

from checkpoints.manifest import MANIFEST
from checkpoints.staging import STAGING, staging_epoch
from durable import faults
from durable.files import fsync_dir, private_dir

TRASH = "trash"


def remove(root: Path, victim: Path) -> None:
    """Move `victim` (below `root`) into the trash and delete it there.

    Raises OSError if it could not be moved, and then nothing happened. A deletion that fails is
    left to the next sweep. Links are removed, never followed.
    """
    trash = private_dir(root / TRASH)
    away = trash / f"{victim.name}.{secrets.token_hex(4)}"
    faults.hit("prune.before_rename")
    victim.rename(away)
    faults.hit("prune.after_rename")
    # The name must be gone for good before its contents go: otherwise a power cut could bring
    # the name back with half of its files.
    fsync_dir(victim.parent)
    delete(away)
    faults.hit("prune.after_delete")


def sweep(root: Path, *, epoch: int) -> list[str]:
    """Delete what crashes left: staging of epochs older than `epoch`, and the trash.

    Staging of `epoch` itself and of newer ones is in use and stays, and so do unknown names.
    Returns the names that were removed. Raises OSError if something cannot be moved.
    """
    swept = []
    for entry in _entries(root / STAGING):
        owner = staging_epoch(entry.name)
        if owner is not None and owner < epoch:
            faults.hit("sweep.before_remove")
            with suppress(FileNotFoundError):  # its owner, slow but alive, took it away itself
                remove(root, entry)
                swept.append(entry.name)
    for entry in _entries(root / TRASH):
        delete(entry)
        swept.append(entry.name)
    return swept


def discard(root: Path, name: str) -> None:
    """Delete the staging of every try at the checkpoint `name`."""
    for entry in _entries(root / STAGING):
        if staging_epoch(entry.name) is not None and entry.name.rpartition(".")[0] == name:
            delete(entry)


def _entries(directory: Path) -> list[Path]:
    try:
        return sorted(directory.iterdir())
    except FileNotFoundError:
        return []


def delete(victim: Path) -> None:
    """Delete something that nobody would take for a checkpoint any more: trash, own staging.

    What cannot be deleted now (busy files) is left to the next sweep.
    """
    if victim.is_symlink() or not victim.is_dir():
        victim.unlink(missing_ok=True)
        return
    with suppress(OSError):
        (victim / MANIFEST).unlink(missing_ok=True)
    faults.hit("prune.mid_delete")
    shutil.rmtree(victim, ignore_errors=True)
