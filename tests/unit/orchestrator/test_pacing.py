"""The pace of a group finds a limit that nobody tells, in few questions, and follows it."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.pacing import BUSY_SECONDS, FULL_SECONDS, JITTER, Pace, backoff


class Site:
    """A cluster that takes `limit` live tasks and counts how often it was asked."""

    def __init__(self, limit: int, *, strangers: int = 0) -> None:
        self.limit, self.strangers, self.live = limit, strangers, 0
        self.pace, self.now, self.rng = Pace(), 0.0, random.Random(1)
        self.accepted, self.refused = 0, 0

    def hand_over(self, wanted: int) -> int:
        """Hand over as much as the pace allows; return what is left."""
        while size := self.pace.size(wanted, live=self.live, now=self.now) if wanted else 0:
            if self.strangers + self.live + size <= self.limit:
                self.pace = self.pace.accepted(size, live=self.live)
                self.live, wanted, self.accepted = (
                    self.live + size,
                    wanted - size,
                    self.accepted + 1,
                )
            else:
                self.refused += 1
                self.pace = self.pace.limited(size, live=self.live, now=self.now, rng=self.rng)
        return wanted


def test_sixty_cells_under_a_limit_of_seven_run_dry() -> None:
    """A chunk of 60 is refused as a whole: it shrinks until seven are in, once."""
    site = Site(7)
    left = site.hand_over(60)
    asked = site.refused

    assert (left, site.live, asked <= 7) == (53, 7, True)
    while left:
        site.now += 10
        site.live -= min(site.live, 3)
        left = site.hand_over(left)

    assert site.refused <= asked + 2, "a known limit is doubted, not tried at each chance"


@given(limit=st.integers(1, 500), wanted=st.integers(1, 2000), strangers=st.integers(0, 50))
def test_the_limit_is_filled_with_few_refusals(limit: int, wanted: int, strangers: int) -> None:
    """Exactly as many as fit, whatever others have there; one refusal a halving."""
    site = Site(limit, strangers=strangers)

    left = site.hand_over(wanted)

    room = max(0, limit - strangers)
    assert site.live == min(room, wanted)
    assert left == wanted - site.live
    assert site.refused <= wanted.bit_length() + 1


def test_a_full_limit_is_doubted_rarely_and_by_one_task() -> None:
    """Nothing ended for long: the limit may have been raised, or strangers' tasks have left."""
    site = Site(4)
    left, asked = site.hand_over(50), site.refused
    site.now += FULL_SECONDS / 2
    site.hand_over(left)
    assert site.refused == asked

    site.now += FULL_SECONDS * (1 + JITTER)
    site.hand_over(left)
    assert site.refused == asked + 1

    site.limit = 40
    site.now += 10 * FULL_SECONDS
    assert site.hand_over(left) == 10


def test_strangers_who_come_lower_the_limit_for_us() -> None:
    """What was proven is not believed for ever."""
    site = Site(8)
    left = site.hand_over(50)
    site.live, site.strangers = 2, 4

    site.hand_over(left)

    assert site.live == 4


def test_a_transient_refusal_closes_the_group_for_a_while() -> None:
    """Longer each time; an acceptance forgets it."""
    rng = random.Random(0)
    pace = Pace().busy(now=100.0, rng=rng)

    assert pace.size(5, live=0, now=100.0 + BUSY_SECONDS - 1) == 0
    assert pace.size(5, live=0, now=100.0 + BUSY_SECONDS * (1 + JITTER)) == 5
    longer = pace.busy(now=200.0, rng=rng)
    assert longer.closed_until >= 200.0 + 2 * BUSY_SECONDS
    assert longer.accepted(5, live=0).failures == 0


@pytest.mark.parametrize(("failures", "least"), [(1, 10.0), (2, 20.0), (4, 80.0), (99, 100.0)])
def test_backoff_doubles_up_to_its_cap_and_is_jittered_by_the_given_rng(
    failures: int, least: float
) -> None:
    """The same seed gives the same wait."""
    one, two = (backoff(failures, first=10.0, most=100.0, rng=random.Random(7)) for _ in range(2))

    assert one == two
    assert least <= one <= least * (1 + JITTER)
