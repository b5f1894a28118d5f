"""What was verified when, so that `ls` can say so without reading gigabytes. Never used to load.

An entry holds for a checkpoint only while each of its files still has the inode, size, times and
manifest digest that it had when every byte was compared.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from checkpoints.manifest import MANIFEST, Manifest
from durable.files import publish_file
from jobs.spec import canonical_json

FILE = "verified.json"
_MAX_BYTES = 16 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The outcome of one verification. `problem` None: every byte was right."""

    at: float  # wall clock, seconds
    problem: str | None


def recall(root: Path, name: str, manifest: Manifest) -> Verdict | None:
    """Return the last verdict on a checkpoint that has not changed since; None: not known."""
    entry = _read(root).get(name)
    try:
        if entry is None or entry["signature"] != _signature(root / name, manifest):
            return None
        return Verdict(at=float(entry["at"]), problem=entry["problem"])
    except (KeyError, TypeError, ValueError, OSError):
        return None


def remember(root: Path, name: str, manifest: Manifest, verdict: Verdict) -> None:
    """Keep a verdict, and forget those on checkpoints that are gone. Raises OSError.

    Two that remember at once may lose one entry, which costs a reading.
    """
    known = {other: entry for other, entry in _read(root).items() if (root / other).is_dir()}
    known[name] = {
        "at": verdict.at,
        "problem": verdict.problem,
        "signature": _signature(root / name, manifest),
    }
    publish_file(root / FILE, canonical_json(known) + b"\n", durable=False)


def _signature(path: Path, manifest: Manifest) -> list[list[Any]]:
    digests = {MANIFEST: ""} | {entry.path: entry.digest for entry in manifest.files}
    lines = []
    for name, digest in sorted(digests.items()):
        status = os.lstat(path / name)
        numbers = [status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]
        lines.append([name, *numbers, digest])
    return lines


def _read(root: Path) -> dict[str, Any]:
    try:
        with (root / FILE).open("rb") as file:
            known = json.loads(file.read(_MAX_BYTES))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}
