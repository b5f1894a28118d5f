"""Where the snapshot of the user's own code lies, unchanged since its submission."""

from __future__ import annotations

from pathlib import Path

from jobs.contract.paths import JobDir
from jobs.snapshot import snapshot_digest
from worker.failures import Misconfigured


def code_of(job: JobDir, digest: str | None) -> Path | None:
    """Return the snapshot's directory, None where the job has no code. Raises `Misconfigured`."""
    if digest is None:
        return None
    code = job.path.parent.parent / "code" / digest.removeprefix("sha256:")
    try:
        found = snapshot_digest(code)
    except OSError as error:
        raise Misconfigured(f"the snapshot of the code cannot be read: {error}") from error
    if found != digest:
        raise Misconfigured(
            f"{code} is not the code that was submitted ({found[:19]}, not {digest[:19]}): move it"
            " away, submit the matrix again (a fresh snapshot is taken), then start the job again"
        )
    return code
