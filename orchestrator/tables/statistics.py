"""Mean and spread of the values of a cell.

The spread is the sample standard deviation, with n - 1 in the denominator: an estimate from a few
seeds, as `statistics.stdev` and `numpy.std(ddof=1)` have it. One value has none.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Summary:
    """`mean` is None for no values, `std` for fewer than two."""

    n: int
    mean: float | None
    std: float | None


def summarize(values: Sequence[float]) -> Summary:
    """Return the summary of finite values."""
    if not values:
        return Summary(0, None, None)
    mean = math.fsum(values) / len(values)
    return Summary(len(values), mean, statistics.stdev(values) if len(values) > 1 else None)
