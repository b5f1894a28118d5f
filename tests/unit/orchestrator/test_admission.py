"""Which due jobs may go: a total order, limits that hold, and nobody is forgotten."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.admission import Candidate, InFlightLimits, admit

HOMES = ("one", "two")


@st.composite
def candidates(draw: st.DrawFn) -> list[Candidate]:
    """Draw a set of jobs; those of a block are begun together, as the store keeps it."""
    number = draw(st.integers(0, 25))
    begun = draw(st.sets(st.integers(0, 5)))
    blocks = [draw(st.integers(0, 5)) for _ in range(number)]
    return [
        Candidate(
            id=f"{position:016x}",
            home=draw(st.sampled_from(HOMES)),
            priority=draw(st.integers(-2, 2)),
            begun=block in begun,
            block=block,
            position=position,
        )
        for position, block in enumerate(blocks)
    ]


LIMITS = st.builds(
    InFlightLimits,
    total=st.integers(1, 12),
    matrices=st.dictionaries(st.sampled_from(HOMES), st.integers(1, 6)),
)
IN_FLIGHT = st.dictionaries(st.sampled_from(HOMES), st.integers(0, 8))


@given(candidates(), IN_FLIGHT, LIMITS, st.randoms(use_true_random=False))
def test_the_order_is_total_and_does_not_depend_on_how_it_was_asked(
    jobs: list[Candidate], in_flight: dict[str, int], limits: InFlightLimits, rng: random.Random
) -> None:
    """Whatever order the rows come in, the same jobs go in the same order."""
    shuffled = rng.sample(jobs, len(jobs))

    assert admit(jobs, in_flight, limits) == admit(shuffled, in_flight, limits)
    assert len({job.rank for job in jobs}) == len(jobs)


@given(candidates(), IN_FLIGHT, LIMITS)
def test_no_limit_is_ever_passed(
    jobs: list[Candidate], in_flight: dict[str, int], limits: InFlightLimits
) -> None:
    """What was at the scheduler and what goes now stay below every limit, unless it was passed."""
    gone = admit(jobs, in_flight, limits).go

    room = max(0, limits.total - sum(in_flight.values()))
    assert len(gone) <= room
    for home, limit in limits.matrices.items():
        mine = sum(job.home == home for job in gone)
        assert mine <= max(0, limit - in_flight.get(home, 0))


@given(candidates(), IN_FLIGHT, LIMITS)
def test_only_a_limit_keeps_a_job_back_and_the_limit_is_named(
    jobs: list[Candidate], in_flight: dict[str, int], limits: InFlightLimits
) -> None:
    """Every job goes, or a limit that concerns it is reached and says so."""
    admitted = admit(jobs, in_flight, limits)

    kept = [job for job in jobs if job not in admitted.go]
    for job in kept:
        assert "" in admitted.full or job.home in admitted.full
    assert kept or not admitted.full


@given(candidates(), LIMITS)
def test_a_job_goes_before_another_only_by_the_policy(
    jobs: list[Candidate], limits: InFlightLimits
) -> None:
    """Nobody overtakes, within one matrix: priority, then begun cells, then the older cell."""
    gone = admit(jobs, {}, limits).go

    for home in HOMES:
        mine = [job for job in gone if job.home == home]
        kept = [job for job in jobs if job.home == home and job not in gone]
        for job in mine:
            for other in kept:
                assert (-job.priority, not job.begun, job.block) <= (
                    -other.priority,
                    not other.begun,
                    other.block,
                )


@given(candidates(), LIMITS)
def test_every_job_of_a_fixed_set_goes_at_last(
    jobs: list[Candidate], limits: InFlightLimits
) -> None:
    """No starvation: with each look something goes, and what has gone does not come back."""
    waiting = list(jobs)
    for _ in range(len(jobs)):
        gone = admit(waiting, {}, limits).go
        assert gone or not waiting
        waiting = [job for job in waiting if job not in gone]
    assert waiting == []


def test_a_full_matrix_leaves_the_room_to_others() -> None:
    """Its own limit keeps back only its own jobs."""
    rows = [
        Candidate(id=f"{n:x}", home=home, priority=0, begun=False, block=n, position=n)
        for n, home in enumerate(["one", "one", "two"])
    ]
    limits = InFlightLimits(total=5, matrices={"one": 1})

    admitted = admit(rows, {}, limits)

    assert [job.position for job in admitted.go] == [0, 2]
    assert admitted.full == {"one": "waits: max_in_flight 1 of matrix one"}
