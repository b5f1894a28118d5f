"""The values of `--backend`."""

from __future__ import annotations

from enum import StrEnum


class Backend(StrEnum):
    """Where jobs run."""

    AUTO = "auto"  # Slurm where it answers, else this machine
    LOCAL = "local"  # the embedded scheduler
    SLURM = "slurm"
