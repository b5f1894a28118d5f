"""Where a job's attempts ran, as their claims say: world sizes and hosts."""

from __future__ import annotations

from collections.abc import Mapping

from jobs.archive import AttemptArchive
from jobs.contract.paths import JobDir
from jobs.contract.records import BadRecord, EpochRecord, read_record
from orchestrator.evidence import newest_epoch
from orchestrator.tables.jobs import Fidelity


def read_fidelity(job: JobDir, settings: Mapping[str, object]) -> Fidelity:
    """Return the distinct world sizes and hosts (of rank 0), in the order of attempts.

    A claim that cannot be read says nothing here; `orch why` names it.
    """
    sizes: dict[int, None] = {}
    hosts: dict[str, None] = {}
    planned = settings.get("engine.ranks", 1)
    for claim in _claims(job):
        sizes[claim.overrides.ranks or (planned if isinstance(planned, int) else 1)] = None
        hosts[claim.host] = None
    return Fidelity(world_sizes=tuple(sizes), hosts=tuple(hosts))


def _claims(job: JobDir) -> list[EpochRecord]:
    archive, found = None, []
    for epoch in range(1, (newest_epoch(job) or 0) + 1):
        path = job.epoch(epoch)
        try:
            claim = read_record(path, EpochRecord)
            if claim is None:  # numbered without gaps: it was archived
                archive = archive or AttemptArchive.of(job)
                claim = archive.record(path, EpochRecord)
        except (BadRecord, OSError):
            continue
        if claim is not None:
            found.append(claim)
    return found
