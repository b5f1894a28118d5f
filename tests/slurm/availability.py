"""When the nodes of a trace are there, and how fast its work could be done on them. Pure.

The *ideal makespan* of n equal jobs of w seconds each: the smallest T for which

    n · w  ≤  ∫₀ᵀ min(n, m(t)) dt        m(t): slots on nodes that are there at t

that is, work may be stopped at any moment and goes on elsewhere at once, at no cost, and a job
uses one slot at a time. (For k of the jobs the same must hold with k for n; as min(k, m) / k falls
with k, the line above implies these. By McNaughton's wrap-around a schedule of that length exists.)
No scheduler can be faster, and one that does not move running jobs cannot reach it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from random import Random


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """A node that was not there. Seconds since the epoch."""

    node: str
    begin: float
    end: float


class Disturbance(StrEnum):
    """What a trace does to nodes."""

    PREEMPTION = "preemption"
    NODE_LOSS = "node loss"


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """One event of a trace; `at` and `seconds` after the submission."""

    kind: Disturbance
    at: float
    seconds: float
    nodes: int


def plan(
    random: Random, *, preemptions: int, node_losses: int, horizon: float, most_nodes: int
) -> list[Planned]:
    """Return events that do not overlap, spread over 5 to 90 % of `horizon` seconds.

    A preemption takes one to `most_nodes` nodes, a loss one; each for a quarter to a half of the
    time until the next.
    """
    kinds = [Disturbance.PREEMPTION] * preemptions + [Disturbance.NODE_LOSS] * node_losses
    random.shuffle(kinds)
    share = horizon * 0.85 / max(1, len(kinds))
    events = []
    for number, kind in enumerate(kinds):
        at = horizon * 0.05 + share * (number + random.uniform(0.0, 0.3))
        seconds = share * random.uniform(0.25, 0.5)
        nodes = random.randint(1, most_nodes) if kind is Disturbance.PREEMPTION else 1
        events.append(Planned(kind=kind, at=at, seconds=seconds, nodes=nodes))
    return events


def slot_seconds(
    outages: Iterable[Outage], *, nodes: int, per_node: int, begin: float, end: float, most: int
) -> float:
    """Return ∫ min(most, m(t)) dt between two moments."""
    return sum(
        max(0.0, min(until, end) - since) * min(most, slots)
        for since, until, slots in _pieces(list(outages), nodes, per_node, begin)
    )


def ideal_makespan(
    outages: Iterable[Outage], *, nodes: int, per_node: int, begin: float, jobs: int, work: float
) -> float:
    """Return the seconds from `begin` that `jobs` jobs of `work` seconds need at least."""
    left = jobs * work
    for since, until, slots in _pieces(list(outages), nodes, per_node, begin):
        speed = min(jobs, slots)
        if not speed:
            continue
        if left <= speed * (until - since):
            return since + left / speed - begin
        left -= speed * (until - since)
    raise ValueError("the nodes never come back")


def _pieces(
    outages: list[Outage], nodes: int, per_node: int, begin: float
) -> list[tuple[float, float, int]]:
    """Return (since, until, slots) from `begin` on, the last one without an end."""
    marks = {begin, *(m for o in outages for m in (o.begin, o.end) if begin < m < math.inf)}
    edges = [*sorted(marks), math.inf]
    pieces = []
    for since, until in pairwise(edges):
        away = {o.node for o in outages if o.begin <= since < o.end}
        pieces.append((since, until, per_node * (nodes - len(away))))
    return pieces
