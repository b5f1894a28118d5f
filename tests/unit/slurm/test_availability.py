"""What a trace is measured against: the ideal makespan, from outages alone."""

from __future__ import annotations

import math
from random import Random

import pytest

from tests.slurm.availability import Outage, ideal_makespan, plan, slot_seconds


def ideal(*outages: Outage, jobs: int = 8, work: float = 300.0) -> float:
    """Four nodes of one slot, from second 1,000 on."""
    return ideal_makespan(outages, nodes=4, per_node=1, begin=1000.0, jobs=jobs, work=work)


def test_undisturbed_it_is_the_work_over_the_slots() -> None:
    """8 x 300 s on four slots: 600 s."""
    assert ideal() == 600.0


def test_a_job_never_uses_two_slots() -> None:
    """One job on four free nodes needs its own time; five need a quarter more than four."""
    assert ideal(jobs=1) == 300.0
    assert ideal(jobs=5) == 375.0


def test_an_outage_costs_its_share() -> None:
    """Two nodes away for 60 s: 120 slot-seconds more for four slots."""
    away = [Outage(node=node, begin=1100.0, end=1160.0) for node in ("n1", "n2")]
    assert ideal(*away) == 630.0


def test_slots_that_nobody_could_use_cost_nothing() -> None:
    """One job does not feel the loss of three of four nodes."""
    away = [Outage(node=node, begin=1000.0, end=1200.0) for node in ("n1", "n2", "n3")]
    assert ideal(*away, jobs=1) == 300.0


def test_a_node_that_is_away_twice_at_once_is_away_once() -> None:
    """Overlapping outages of one node, and those after the end or before the begin."""
    one = Outage(node="n1", begin=1100.0, end=1180.0)
    inside = Outage(node="n1", begin=1120.0, end=1140.0)
    late = Outage(node="n2", begin=5000.0, end=6000.0)
    early = Outage(node="n3", begin=10.0, end=1000.0)
    assert ideal(one, inside, late, early) == ideal(one) == 620.0


def test_everything_away_is_waited_for() -> None:
    """While no node is there, nothing is done; without an end there is no ideal."""
    away = [Outage(node=f"n{n}", begin=1000.0, end=1050.0) for n in range(1, 5)]
    assert ideal(*away) == 650.0
    gone = [Outage(node=f"n{n}", begin=1000.0, end=math.inf) for n in range(1, 5)]
    with pytest.raises(ValueError, match="never come back"):
        ideal(*gone)


def test_the_ideal_uses_exactly_the_slot_seconds_that_were_there() -> None:
    """Up to the ideal makespan the availability is the work, no more, no less."""
    away = [
        Outage(node="n1", begin=1100.0, end=1277.0),
        Outage(node="n4", begin=1200.0, end=1333.0),
    ]
    there = slot_seconds(away, nodes=4, per_node=1, begin=1000.0, end=1000.0 + ideal(*away), most=8)
    assert there == pytest.approx(8 * 300.0)


def test_a_plan_is_its_seed() -> None:
    """The same seed gives the same events; they follow one another and end before the horizon."""
    made = [
        plan(Random(7), preemptions=4, node_losses=2, horizon=600.0, most_nodes=2) for _ in range(2)
    ]
    assert made[0] == made[1]
    assert len(made[0]) == 6
    ends = [event.at + event.seconds for event in made[0]]
    assert all(end < event.at for end, event in zip(ends[:-1], made[0][1:], strict=True))
    assert ends[-1] < 600.0
