"""Which checkpoints may go. Pure: it sees names and what was verified, never the disk."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from checkpoints.verification import canonical_name

MIN_KEEP = 2  # the newest one may turn out bad


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionPlan:
    """`delete`: oldest first. `keep`: newest first."""

    delete: tuple[str, ...]
    keep: tuple[str, ...]


def newest_first(names: Iterable[str]) -> list[str]:
    """Return the names of checkpoints by falling (epoch, step); other names are left out."""
    keyed = [(key, name) for name in names if (key := canonical_name(name)) is not None]
    return [name for _, name in sorted(keyed, reverse=True)]


def plan_retention(
    names: Iterable[str], *, verified: Collection[str], keep: int, protect: Collection[str]
) -> RetentionPlan:
    """Plan to keep the `keep` newest verified checkpoints, all newer ones, and protected ones.

    A checkpoint is deleted only if `keep` verified ones are newer than it; so nothing goes while
    there are fewer. Raises ValueError for `keep` below 2.
    """
    if keep < MIN_KEEP:
        raise ValueError(f"keep must be at least {MIN_KEEP}, not {keep}: the newest may be bad")
    delete: list[str] = []
    kept: list[str] = []
    newer_verified = 0
    for name in newest_first(set(names)):
        superseded = newer_verified >= keep
        (delete if superseded and name not in protect else kept).append(name)
        newer_verified += name in verified
    return RetentionPlan(delete=tuple(reversed(delete)), keep=tuple(kept))
