"""Poison: attempts that die at the same step whenever they resume from the same checkpoint. Pure.

Its bytes are what they were when they were written, so verification cannot find it: only the
deaths tell. Going back one checkpoint is tried once; then the step is to blame, not the state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Death:
    """An attempt that nobody asked to stop: where it had begun and where it died."""

    resumed_from: str | None  # a checkpoint's name; None: from the beginning
    step: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Poison:
    """So many deaths at this step after resuming from this checkpoint."""

    checkpoint: str
    step: int
    deaths: int


def find_poison(deaths: Sequence[Death], *, attempts: int) -> Poison | None:
    """Return what the newest death shows together with earlier ones; None: not enough of them.

    What began from the beginning blames no checkpoint. Other ends may lie between the deaths: a
    preemption that committed nothing does not clear a checkpoint, and one that committed is
    followed by attempts that resume from the newer one.
    """
    if not deaths or deaths[-1].resumed_from is None or deaths[-1].step is None:
        return None
    last = deaths[-1]
    count = sum(death == last for death in deaths)
    if count < attempts:
        return None
    assert last.resumed_from is not None
    assert last.step is not None
    return Poison(checkpoint=last.resumed_from, step=last.step, deaths=count)
