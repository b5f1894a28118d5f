"""Which of two values of a metric is the better one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import TypeVar

from jobs.known_tasks import LABEL_METRICS, TEXT_METRICS

_T = TypeVar("_T")
_LOWER = frozenset(
    {"loss", "perplexity", "error", "error_rate", "wer", "cer", "mse", "rmse", "mae"}
)
_HIGHER = LABEL_METRICS | TEXT_METRICS | {"precision", "recall", "bleu", "rouge2"}


class Better(StrEnum):
    """Which end is better."""

    MIN = "min"
    MAX = "max"

    def choose(self, candidates: Iterable[_T], value: Callable[[_T], float]) -> _T:
        """Return the best candidate; of equal ones the first."""
        return (min if self is Better.MIN else max)(candidates, key=value)


def known_direction(metric: str) -> Better | None:
    """Return which end is better by the metric's name, None for names that do not tell.

    Any part of the name may be the telling one: `test.category.title_generation.rougeL`, and
    `rougeL_for_task1` as some programs write it.
    """
    for part in reversed(metric.split(".")):
        name = part.partition("_for_")[0]
        if name in _LOWER:
            return Better.MIN
        if name in _HIGHER:
            return Better.MAX
    return None
