"""Quarantine: a bad checkpoint is moved away with the reason, and kept as evidence.

quarantine/step-00001200.e0003.0/QUARANTINE.json
quarantine/step-00001200.e0003.0/step-00001200.e0003/...   untouched
"""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import Any

from checkpoints.errors import BrokenCheckpoint
from durable import faults
from durable.files import fsync_dir, private_dir, publish_file
from jobs.spec import canonical_json

QUARANTINE = "quarantine"
REASON = "QUARANTINE.json"


def quarantine(root: Path, name: str, problem: BrokenCheckpoint) -> Path:
    """Move `root/name` into quarantine; return its cell. Raises FileNotFoundError if it is gone.

    The reason is written first: a crash in between leaves a reason without a checkpoint, which
    is harmless, never a checkpoint without its reason.
    """
    victim = root / name
    victim.lstat()
    cell = _new_cell(private_dir(root / QUARANTINE), name)
    publish_file(cell / REASON, canonical_json(_reason(problem)) + b"\n")
    faults.hit("quarantine.after_reason")
    victim.rename(cell / name)
    faults.hit("quarantine.after_rename")
    fsync_dir(cell)
    fsync_dir(root)
    return cell


def _reason(problem: BrokenCheckpoint) -> dict[str, Any]:
    return {
        "schema_version": 1,
        "reason": problem.reason,
        "file": problem.file,
        "offset": problem.offset,
        "expected": problem.expected,
        "found": problem.found,
        "when": time.time(),
    }


def _new_cell(quarantined: Path, name: str) -> Path:
    for number in itertools.count():
        cell = quarantined / f"{name}.{number}"
        try:
            cell.mkdir(mode=0o700)
        except FileExistsError:
            continue
        fsync_dir(quarantined)
        return cell
    raise AssertionError("itertools.count() ended")
