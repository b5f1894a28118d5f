"""Which due jobs may go now, and in which order. Pure: values in, values out.

The order is total: a higher priority first; then jobs of cells of which some seed has gone
already, so that comparisons over seeds become complete early; then cells in the order in which
they were submitted, each with all its seeds; then the order of submission.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

MAX_IN_FLIGHT = 1000  # a tenth of what a Slurm controller takes from all its users by default


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A job without live task whose time has come and whose needs are met."""

    id: str
    home: str  # name of the matrix that brought it, whose limit it counts for
    priority: int
    begun: bool  # a job of its seed block was handed over before
    block: int  # position of the block's oldest job
    position: int  # unique

    @property
    def rank(self) -> tuple[int, bool, int, int]:
        """What it is ordered by; the smallest goes first."""
        return (-self.priority, not self.begun, self.block, self.position)


@dataclass(frozen=True, slots=True, kw_only=True)
class InFlightLimits:
    """How many tasks may be at the scheduler at a time, queued or running."""

    total: int = MAX_IN_FLIGHT
    matrices: Mapping[str, int] = field(default_factory=dict)

    def room(self, in_flight: Mapping[str, int], home: str | None = None) -> int:
        """Return how many more may go, of one matrix or (None) of all; never negative."""
        room = self.total - sum(in_flight.values())
        if home is not None and home in self.matrices:
            room = min(room, self.matrices[home] - in_flight.get(home, 0))
        return max(0, room)

    def words(self, home: str) -> str:
        """Return why a job waits when this limit (of a matrix; "": of all) is reached."""
        if home:
            return f"waits: max_in_flight {self.matrices[home]} of matrix {home}"
        return f"waits: max_in_flight {self.total}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """What may go, in order; and the limits that kept others back, with their words."""

    go: tuple[Candidate, ...]
    full: Mapping[str, str]  # of a matrix; "": of all


def admit(
    candidates: Iterable[Candidate], in_flight: Mapping[str, int], limits: InFlightLimits
) -> Admitted:
    """Return the jobs that may go now. `in_flight`: tasks at the scheduler, by home."""
    room = limits.room(in_flight)
    left = {home: limit - in_flight.get(home, 0) for home, limit in limits.matrices.items()}
    go: list[Candidate] = []
    full: dict[str, str] = {}
    for candidate in sorted(candidates, key=lambda c: c.rank):
        home = candidate.home
        if len(go) >= room:
            full[""] = limits.words("")
            break
        if left.get(home, 1) <= 0:
            full[home] = limits.words(home)
            continue
        if home in left:
            left[home] -= 1
        go.append(candidate)
    return Admitted(go=tuple(go), full=full)
