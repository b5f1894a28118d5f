"""The lock digest of installed packages: name==version of an environment, sorted and hashed.

Two attempts with one digest ran the same libraries. It is in each attempt's claim; a change between
attempts of one job is a reason against `exact`, or refused with `packages: strict`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from jobs.archive import AttemptArchive
from jobs.contract.paths import JobDir
from jobs.contract.records import BadRecord, EpochRecord, read_record
from jobs.waivers import Waiver
from worker.claim import epochs
from worker.failures import ResumeRefused

ASK_SECONDS = 60.0
_PYTHON = re.compile(r"python(\d(\.\d+)?)?")
_LIST = (
    "import json; from importlib import metadata;"
    "print(json.dumps([[d.name, d.version] for d in metadata.distributions()]))"
)


def lock_digest(packages: Iterable[tuple[str, str]]) -> str:
    """Return the digest of (name, version) pairs; order, case and `-` or `_` mean nothing. Pure."""
    lines = {f"{re.sub(r'[-_.]+', '-', name).lower()}=={version}" for name, version in packages}
    return "sha256:" + hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def own_packages() -> str:
    """Return the lock digest of this interpreter's environment."""
    return lock_digest((str(d.name), d.version) for d in metadata.distributions())


def packages_of(program: str | None) -> str | None:
    """Return the lock digest of the environment that `program` (an absolute path) runs in.

    Of an interpreter elsewhere it is asked; any other program (None: no path) is taken to run in
    ours. None when the interpreter does not say.
    """
    if program is None or not _PYTHON.fullmatch(Path(program).name) or _same(program):
        return own_packages()
    try:
        said = subprocess.run(
            [program, "-I", "-c", _LIST],
            capture_output=True,
            timeout=ASK_SECONDS,
            check=True,
            stdin=subprocess.DEVNULL,
        )
        return lock_digest((str(name), str(version)) for name, version in json.loads(said.stdout))
    except (OSError, subprocess.SubprocessError, ValueError, TypeError):
        return None


def _same(program: str) -> bool:
    # Not resolved: a virtual environment's python is a link to the one that it was made from.
    folder = os.path.realpath(Path(program).parent)
    return folder == os.path.realpath(Path(sys.executable).parent)


def last_packages(job: JobDir, *, before: int) -> tuple[int, str] | None:
    """Return the newest earlier attempt that has a lock digest on record, and the digest."""
    archive = AttemptArchive.of(job)
    for epoch in sorted({*epochs(job), *archive.epochs}, reverse=True):
        if epoch >= before:
            continue
        try:
            path = job.epoch(epoch)
            record = read_record(path, EpochRecord) or archive.record(path, EpochRecord)
        except BadRecord:
            continue
        if record is not None and record.packages is not None:
            return epoch, record.packages
    return None


def check_strict(job: JobDir, claim: EpochRecord) -> None:
    """Raise `ResumeRefused` when the packages are not those of the attempt before.

    Not where that was waived; the result then has it as a reason.
    """
    if Waiver.PACKAGES in claim.waivers:
        return
    last = last_packages(job, before=claim.epoch)
    if last is None or claim.packages is None or last[1] == claim.packages:
        return
    raise ResumeRefused(
        f"packages: strict: the installed packages differ from those of attempt {last[0]}"
        f" ({last[1][:19]} then, {claim.packages[:19]} now): restore them, or let it pass:"
        f" orch retry {job.path.name[:8]} --waive packages"
    )
