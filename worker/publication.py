"""Publishing what a job leaves: weights and curve beside the result, the result last, as one epoch.

A check of the fence and the renames after it are no single step: an attempt may be stopped between
them and go on after a newer one has claimed the job. So everything is staged in the attempt's own
directory first, then the fence is checked, then the staged files get their names; and who claims
the job takes away what older epochs have staged. A rename or link of something that is gone fails:
what passed the check before the claim finds nothing to publish after it (decision 0017).
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from durable.faults import hit
from durable.files import fsync_dir, private_dir, publish_staged, write_durable
from jobs.contract.paths import JobDir
from jobs.contract.records import ResultRecord
from worker.attempt import Attempt, valid_result
from worker.claim import check_fence, epochs


def publish_result(
    attempt: Attempt, result: ResultRecord, *, beside: Mapping[Path, bytes]
) -> ResultRecord:
    """Publish `beside` (path in the job directory -> content), then the result; all durable.

    Return the result that stands: that of an older epoch, published before this one claimed the
    job, stays, and so does what lies beside it. Raises `Fenced`, FileExistsError when something
    that is no result of this job has the name, OSError.
    """
    job, staging = attempt.job, attempt.directory.publishing
    try:
        shutil.rmtree(staging, ignore_errors=True)  # of a call that failed
        private_dir(staging)
        for path, data in beside.items():
            write_durable(staging / path.name, data)
        write_durable(staging / job.result.name, result.to_json())
        hit("publication.staged")
        check_fence(job, attempt.epoch)
        hit("publication.checked")
        other = _publish(attempt, staging, [path.name for path in beside])
        if other is not None and other.epoch > attempt.epoch:
            check_fence(job, attempt.epoch)
        return other or result
    except FileNotFoundError:
        check_fence(job, attempt.epoch)  # who holds the job took it away
        raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _publish(attempt: Attempt, staging: Path, beside: list[str]) -> ResultRecord | None:
    """Give the staged files their names; return another epoch's result if that is there."""
    job = attempt.job
    fsync_dir(job.path)  # an NFS client asks the server again when a directory is opened
    standing = valid_result(job, attempt.spec)
    if standing is not None:
        return standing
    for name in beside:
        publish_staged(staging / name, job.path / name)
    hit("publication.before_result")
    if publish_staged(staging / job.result.name, job.result, new=True):
        return None
    standing = valid_result(job, attempt.spec)
    if standing is None:
        raise FileExistsError(
            f"{job.result}: exists and is not a result of this job; move it away and run again"
        )
    return standing


def withdraw_older(job: JobDir, epoch: int) -> None:
    """Take away what epochs before `epoch`, which is claimed, have staged. Raises OSError.

    Only after this may the holder of `epoch` believe that there is no result.
    """
    for older in epochs(job):
        if older < epoch:
            away = job.attempt(epoch).path / f"withdrawn-{older:04d}.{secrets.token_hex(4)}"
            with suppress(FileNotFoundError):
                job.attempt(older).publishing.rename(away)
                shutil.rmtree(away, ignore_errors=True)
