"""Where a job's checkpoints lie: in its directory, or on the site's big, purgeable filesystem.

With `scratch_root` in site.yaml, `jobs/<id>/checkpoints` is a symbolic link to a directory below
it, made once by the first attempt and kept for good: whatever reads the job directory finds the
checkpoints where it always does, and a later change of site.yaml moves nothing.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path

from durable.faults import hit
from durable.files import fsync_dir, private_dir
from jobs.contract.paths import JobDir
from worker.failures import Misconfigured


def make_checkpoint_directory(job: JobDir, scratch_root: str | None) -> str | None:
    """Make `job.checkpoints` if it is missing (rank 0); return a report when scratch was purged.

    Raises `Misconfigured` when the place on scratch cannot be made.
    """
    link = job.checkpoints
    if scratch_root is not None and not os.path.lexists(link):
        target = _place(job, Path(scratch_root))
        _make(target)
        hit("scratch.before_link")
        with suppress(FileExistsError):  # an older attempt on a node that only looked dead
            link.symlink_to(target)
        fsync_dir(link.parent)
        return None
    if not link.is_symlink():
        private_dir(link)
        return None
    target = link.readlink()
    if target.is_dir():
        return None
    _make(target)  # it was there before the link was
    return f"the checkpoints were purged from {target}: there is nothing to resume from"


def _place(job: JobDir, scratch_root: Path) -> Path:
    """Return this job's directory on scratch; two state directories never share one."""
    state = job.path.parent.parent.absolute()
    which = hashlib.sha256(os.fsencode(state)).hexdigest()[:12]
    return scratch_root / "orch" / which / job.path.name


def _make(target: Path) -> None:
    try:
        private_dir(target)
    except OSError as error:
        raise Misconfigured(
            f"scratch_root: {target} cannot be made: {error.strerror}; correct scratch_root in"
            " site.yaml (it must be visible and writable on the compute nodes)"
        ) from error
