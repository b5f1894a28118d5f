"""Slurm's commands, asked of one private cluster."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a command said."""

    ok: bool
    out: str
    err: str


def clean_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without the caller's SLURM_*, SBATCH_* or secrets."""
    return {"PATH": PATH, "LC_ALL": "C.UTF-8", "HOME": "/root", **extra}


def ask(argv: Sequence[str], environment: Mapping[str, str], *, seconds: float = 20.0) -> Said:
    """Run a command; one that is missing or hangs has not answered."""
    try:
        done = subprocess.run(
            list(argv),
            env=clean_environment(environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Said(ok=False, out="", err=str(error))
    return Said(ok=done.returncode == 0, out=done.stdout, err=done.stderr)
