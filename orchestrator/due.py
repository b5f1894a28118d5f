"""Jobs whose time has come, and what they have in common when they go out as one array."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.contract.records import Overrides
from jobs.spec import JobSpec, ResourcesSpec
from jobs.states import JobState


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceGroup:
    """What one array's tasks ask for; a refusal of one of them is a refusal of all."""

    ranks: int
    threads_per_rank: int
    resources: ResourcesSpec
    grace_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DueJob:
    """A job without live task whose time has come."""

    spec: JobSpec
    state: JobState
    matrix: str
    overrides: Overrides
    attempts: int
    budget_epoch: int = 0  # of the last `orch retry`

    def resources(self) -> ResourcesSpec:
        """Return what to ask for, overrides applied."""
        own = self.spec.run.resources
        if self.overrides.memory_gb is None:
            return own
        return own.model_copy(update={"memory_gb": self.overrides.memory_gb})

    def waivers(self) -> tuple[str, ...]:
        """Return the names of what may differ at a resume: the matrix's, and a person's."""
        names = (*self.spec.run.resume.waive, *self.overrides.waive)
        return tuple(dict.fromkeys(str(name) for name in names))

    def group(self) -> ResourceGroup:
        """Return the job's resource group."""
        engine = self.spec.semantic.engine
        return ResourceGroup(
            ranks=self.overrides.ranks or engine.ranks,
            threads_per_rank=engine.threads_per_rank,
            resources=self.resources(),
            grace_seconds=self.spec.run.grace_seconds,
        )
