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
    names: Iterable[str],
    *,
    verified: Collection[str],
    keep: int,
    protect: Collection[str] = (),
    every_steps: int | None = None,
) -> RetentionPlan:
    """Plan to keep the `keep` newest verified checkpoints, all newer ones, and protected ones.

    A checkpoint is deleted only if `keep` verified ones are newer than it; so nothing goes while
    there are fewer. `every_steps`: those of multiples of so many steps stay for good, one of each
    step. Raises ValueError for `keep` below 2.
    """
    if keep < MIN_KEEP:
        raise ValueError(f"keep must be at least {MIN_KEEP}, not {keep}: the newest may be bad")
    milestones = _milestones(names := set(names), every_steps)
    delete: list[str] = []
    kept: list[str] = []
    newer_verified = 0
    for name in newest_first(names):
        superseded = newer_verified >= keep
        stays = not superseded or name in protect or name in milestones
        (kept if stays else delete).append(name)
        newer_verified += name in verified
    return RetentionPlan(delete=tuple(reversed(delete)), keep=tuple(kept))


def _milestones(names: Collection[str], every_steps: int | None) -> frozenset[str]:
    """Return, for each multiple of `every_steps`, the checkpoint of the highest epoch."""
    if every_steps is None:
        return frozenset()
    newest: dict[int, str] = {}
    for name in newest_first(names):
        key = canonical_name(name)
        if key is not None and key[1] and key[1] % every_steps == 0:
            newest.setdefault(key[1], name)
    return frozenset(newest.values())
