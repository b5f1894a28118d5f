"""What the last `orch submit` chose, for the verbs that act on its jobs later.

Without it, `orch watch` on a machine with Slurm would hand the retries of local jobs to Slurm,
or, while the controller is silent, run Slurm's jobs on the login node.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from durable.files import private_dir, publish_file
from jobs.contract.records import BadRecord, Record, read_record


class RememberedChoice(Record):
    """backend.json of the state directory."""

    backend: Literal["auto", "local", "slurm"] = "auto"
    site: str | None = None  # absolute; only where --site named one
    slots: int | None = None


def _path(home: Path) -> Path:
    return home / "backend.json"


def remembered_choice(home: Path) -> RememberedChoice:
    """Return the last choice; the defaults where there is none that can be read."""
    try:
        return read_record(_path(home), RememberedChoice) or RememberedChoice()
    except (BadRecord, OSError):
        return RememberedChoice()  # it is a convenience: `--backend` says the same


def remember_choice(home: Path, choice: RememberedChoice) -> None:
    """Keep a choice; called before the submission, so that no job exists without it."""
    if remembered_choice(home) != choice:
        private_dir(home)
        publish_file(_path(home), choice.to_json())
