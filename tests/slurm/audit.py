"""What job directories prove of stub jobs: results, none twice, no commit of an older epoch.

Read from what the ranks themselves left (stub_rank), not from what the orchestrator believes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from jobs.contract.paths import JobDir
from jobs.contract.records import EpochRecord, ExitRecord, Outcome, ResultRecord, read_record
from tests.slurm.stub_rank import weights_after

# Between the last look at the epochs and the rename; a claim within it is not yet visible.
FENCE_SECONDS = 1.0


@dataclass
class Audit:
    """Figures and violations over all jobs."""

    jobs: int = 0
    results: int = 0
    published: int = 0  # times that a rank published a result
    attempts: int = 0
    fenced: int = 0
    steps: int = 0  # taken by all attempts
    files: int = 0
    violations: list[str] = field(default_factory=list)

    @property
    def replayed(self) -> int:
        """Steps that had to be taken again."""
        return self.steps - self.needed

    needed: int = 0


def audit(jobs: Iterable[JobDir], *, steps: int) -> Audit:
    """Return what the directories of jobs of `steps` steps prove."""
    found = Audit()
    for job in jobs:
        _audit_one(job, steps, found)
    return found


def _audit_one(job: JobDir, steps: int, found: Audit) -> None:
    name = job.path.name
    found.jobs += 1
    found.needed += steps
    result = read_record(job.result, ResultRecord)
    if result is None:
        found.violations.append(f"{name}: lost: no result")
    elif result.weights_digest != weights_after(steps):
        found.violations.append(f"{name}: the result is not that of an uninterrupted run")
    else:
        found.results += 1
    published = len(_lines(job, "results"))
    found.published += published
    if published > 1:
        found.violations.append(f"{name}: {published} results were published")
    if (
        published
        and result is not None
        and _lines(job, "results")[0].split()[0] != str(result.epoch)
    ):
        found.violations.append(f"{name}: the result is not of the epoch that published it")
    claims = _claims(job)
    found.attempts += len(claims)
    found.fenced += len(_lines(job, "fenced"))
    found.steps += len(_lines(job, "steps"))
    found.files += sum(path.is_file() for path in job.path.rglob("*"))
    found.violations += [f"{name}: {line}" for line in _late_commits(job, claims)]
    found.violations += [f"{name}: {line}" for line in _silent(job)]
    taken = Counter(line for line in _lines(job, "steps"))
    found.violations += [f"{name}: step {s} twice in one epoch" for s, n in taken.items() if n > 1]


def _late_commits(job: JobDir, claims: list[EpochRecord]) -> list[str]:
    """Return commits and results of an epoch after a newer one had claimed the job."""
    late = []
    told = [(line, "checkpoint") for line in _lines(job, "commits")]
    told += [(line, "result") for line in _lines(job, "results")]
    for line, what in told:
        epoch, when = int(line.split()[0]), float(line.split()[-1])
        newer = [c.epoch for c in claims if c.epoch > epoch and c.started_at < when - FENCE_SECONDS]
        if newer:
            late.append(f"epoch {epoch} published a {what} although epoch {newer[0]} held the job")
    return late


def _silent(job: JobDir) -> list[str]:
    """Return fenced attempts without an exit record that says so."""
    silent = []
    for line in _lines(job, "fenced"):
        epoch = int(line.partition(":")[0])
        record = read_record(job.attempt(epoch).exit_record(0), ExitRecord)
        if record is None or record.outcome is not Outcome.FENCED:
            silent.append(f"epoch {epoch} was fenced and left no record of it")
    return silent


def _claims(job: JobDir) -> list[EpochRecord]:
    paths = sorted(job.epochs.glob("*.json")) if job.epochs.is_dir() else []
    return [r for path in paths if (r := read_record(path, EpochRecord)) is not None]


def _lines(job: JobDir, what: str) -> list[str]:
    path: Path = job.path / f"{what}.log"
    return path.read_text().splitlines() if path.exists() else []
