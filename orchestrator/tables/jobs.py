"""One job as dotted keys: its settings, its metrics, and what it went through."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from jobs.states import JobState
from orchestrator.rows import ResultRow

SEED = "seed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fidelity:
    """Where a job ran: the distinct world sizes and hosts of its attempts, in order."""

    world_sizes: tuple[int, ...] = ()
    hosts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TableJob:
    """A job of a table. The three kinds of keys never share one: the order decides."""

    id: str
    state: JobState
    settings: Mapping[str, object]  # of the spec: all that may change the result
    facts: Mapping[str, object] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)  # `split.name`; empty: no result

    def get(self, key: str) -> object:
        """Return the value of a key, None where the job has none."""
        for kind in (self.settings, self.facts, self.metrics):
            if key in kind:
                return kind[key]
        return None

    def keys(self) -> Iterator[str]:
        """Yield every key."""
        yield from {**self.settings, **self.facts, **self.metrics}


def table_jobs(
    rows: Iterable[ResultRow], fidelity: Mapping[str, Fidelity] | None = None
) -> list[TableJob]:
    """Return the rows as jobs of a table. `fidelity` by job id, where it was read."""
    return [_table_job(row, (fidelity or {}).get(row.id, Fidelity())) for row in rows]


def _table_job(row: ResultRow, fidelity: Fidelity) -> TableJob:
    facts: dict[str, object] = {
        "name": row.name,
        "state": row.state.value,
        "matrix": " ".join(row.matrices),
        "attempts": row.attempts,
        "preemptions": row.preemptions,
        "exact": row.exact,
        "world_sizes": " ".join(map(str, fidelity.world_sizes)) or None,
        "hosts": " ".join(fidelity.hosts) or None,
        "steps": row.steps,
        "trainable_parameters": row.trainable_parameters,
    }
    return TableJob(
        id=row.id,
        state=row.state,
        settings={key: _plain(value) for key, value in row.settings.items()},
        facts=facts,
        metrics={
            f"{split}.{name}": value
            for split, named in row.metrics.items()
            for name, value in named.items()
        },
    )


def _plain(value: object) -> object:
    """Return a setting that can be compared and hashed: lists as they are written in YAML."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(str, value))}]"
    return value


def differing(jobs: Sequence[TableJob]) -> list[str]:
    """Return the settings in which jobs differ."""
    keys = dict.fromkeys(key for job in jobs for key in job.settings)
    return [key for key in keys if len({repr(job.settings.get(key)) for job in jobs}) > 1]


def independent(jobs: Sequence[TableJob]) -> list[str]:
    """Return the settings in which jobs differ, without those that follow from one before."""
    kept: dict[tuple[int, ...], str] = {}  # which jobs are equal in it -> the first such key
    for key in differing(jobs):
        seen: dict[str, int] = {}
        parts = tuple(seen.setdefault(repr(job.settings.get(key)), len(seen)) for job in jobs)
        kept.setdefault(parts, key)
    return list(kept.values())
