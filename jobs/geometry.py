"""How a global batch is cut into micro-batches, also over another number of ranks. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.contract.records import Overrides
from jobs.spec import JobSpec, Semantic


class BadGeometry(ValueError):
    """The global batch cannot be cut so; the message says what is possible."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchGeometry:
    """How a global batch is cut: global = micro × accumulation × ranks."""

    micro_batch: int  # examples per rank and micro-step
    accumulation: int  # micro-steps per step
    ranks: int

    @property
    def global_batch(self) -> int:
        """Examples per step."""
        return self.micro_batch * self.accumulation * self.ranks


def batch_geometry(semantic: Semantic, overrides: Overrides) -> BatchGeometry:
    """Return the cut of the global batch, which no override changes.

    Over another number of ranks the micro-batch stays where it divides a rank's share, so that
    the very same micro-batches are only dealt out otherwise; else the next smaller one that does.
    Raises `BadGeometry` with the possible values where the batch cannot be cut so.
    """
    batch, ranks = semantic.train.global_batch, overrides.ranks or semantic.engine.ranks
    micro = overrides.micro_batch or semantic.micro_batch
    if ranks != semantic.engine.ranks:
        share, rest = divmod(batch, ranks)
        if rest or share == 0:
            possible = ", ".join(str(n) for n in _divisors(batch))
            raise BadGeometry(
                f"train.global_batch {batch} cannot be dealt out to {ranks} ranks;"
                f" possible are {possible}"
            )
        micro = max(size for size in _divisors(share) if size <= micro)
    accumulation, rest = divmod(batch, micro * ranks)
    if rest or accumulation == 0:
        raise BadGeometry(
            f"overrides.micro_batch {micro} × {ranks} ranks does not divide train.global_batch"
            f" {batch}: choose a divisor"
        )
    return BatchGeometry(micro_batch=micro, accumulation=accumulation, ranks=ranks)


def check_ranks(spec: JobSpec, overrides: Overrides, ranks: int) -> None:
    """Raise `BadGeometry`, naming the job and what it can have, where it cannot have so many."""
    if not isinstance(spec.semantic, Semantic):
        raise BadGeometry(f"{spec.name} is a command: only it knows how to go on with other ranks")
    nodes, batch = spec.run.resources.nodes or 1, spec.semantic.train.global_batch
    possible = [n for n in _divisors(batch) if n % nodes == 0]
    if ranks in possible:
        batch_geometry(spec.semantic, overrides.model_copy(update={"ranks": ranks}))
        return
    said = f"{spec.name}: train.global_batch {batch} cannot be dealt out to {ranks} ranks"
    if nodes > 1:
        said += f" on resources.nodes {nodes}"
    raise BadGeometry(f"{said}; possible are {', '.join(map(str, possible)) or 'none'}")


def _divisors(number: int) -> list[int]:
    return [n for n in range(1, number + 1) if number % n == 0]
