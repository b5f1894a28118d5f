"""A watcher asks quickly after a change, rarely in between, and never too often for long."""

from __future__ import annotations

import threading
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from jobs.contract.records import Outcome
from orchestrator import requests
from orchestrator.awakening import STATS_AT_ONCE, Awakening
from orchestrator.interval import CLUSTER, LOCAL, Interval
from orchestrator.requests import CancelWish
from tests.unit.orchestrator.world import SPECS, World

REQUESTS_A_LOOK = 2  # of one squeue, measured by tests/slurm/test_load.py


def test_nothing_changes_and_slurmctld_has_three_requests_a_minute() -> None:
    """The promise: all terminals and matrices together at most four a minute."""
    interval = Interval(CLUSTER)

    looks = [interval.after(60.0 * n, changed=False) for n in range(10)]

    assert set(looks) == {CLUSTER.steady}
    assert REQUESTS_A_LOOK * 60 / CLUSTER.steady <= 4


def test_after_a_change_looks_are_quick_for_a_while() -> None:
    """A requeued task is undelayed and seen to start within seconds."""
    interval = Interval(CLUSTER)

    assert interval.after(0.0, changed=True) == CLUSTER.quick
    assert interval.after(10.0, changed=False) == CLUSTER.quick
    assert interval.after(16.0, changed=False) == CLUSTER.steady


def test_the_embedded_scheduler_is_quick_exactly_while_something_happens() -> None:
    """Asking costs nothing there."""
    interval = Interval(LOCAL)

    assert interval.after(0.0, changed=True) == LOCAL.quick
    assert interval.after(0.1, changed=False) == LOCAL.steady


@given(st.lists(st.booleans(), min_size=400, max_size=400), st.floats(0, 1e6))
def test_the_allowance_bounds_what_a_busy_matrix_costs(changes: list[bool], start: float) -> None:
    """However often something ends, in the long run the allowance's refill is the limit."""
    interval, now, quick = Interval(CLUSTER), start, 0
    for changed in changes:
        seconds = interval.after(now, changed=changed)
        quick += seconds == CLUSTER.quick
        now += seconds

    assert CLUSTER.allowance is not None
    assert quick <= CLUSTER.allowance + (now - start) / CLUSTER.refill + 1


def test_a_pause_ends_with_a_wish(tmp_path: Path) -> None:
    """Nobody waits for the steady interval to be over."""
    world = World(tmp_path)
    awakening = Awakening(world.service.state)

    assert not awakening.is_due()
    requests.post(world.service.state, CancelWish(jobs=("a" * 16,)))
    assert awakening.is_due()


def test_a_pause_ends_with_an_exit_record_of_a_running_attempt(tmp_path: Path) -> None:
    """The attempt says so itself, before any scheduler is asked; each end wakes once."""
    world = World(tmp_path)
    world.submit(SPECS[:1])
    world.tick()
    (key,) = world.task_keys()
    world.begin(key, SPECS[0])
    world.tick()
    ticker = world.service._ticker
    assert ticker is not None
    awakening = Awakening(world.service.state)
    awakening.expect(ticker.running)
    assert ticker.running == [(SPECS[0].id, 1)]
    assert not awakening.is_due()

    world.fail(SPECS[0], Outcome.SAVED)
    assert awakening.is_due()

    world.tick()
    awakening.expect(ticker.running)
    assert not awakening.is_due()


def test_many_attempts_are_looked_at_in_turn(tmp_path: Path) -> None:
    """One call costs a bounded number of look-ups, and every attempt has its turn."""
    world = World(tmp_path)
    attempts = [(f"{n:016x}", 1) for n in range(2 * STATS_AT_ONCE)]
    awakening = Awakening(world.service.state)
    awakening.expect(attempts)
    record = world.service.state.job(attempts[-1][0]).attempt(1).exit_record(0)
    record.parent.mkdir(parents=True)
    record.touch()

    assert [awakening.is_due() for _ in range(2)].count(True) == 1


def test_stop_ends_a_pause_at_once(tmp_path: Path) -> None:
    """Ctrl-C is obeyed, not slept over."""
    world = World(tmp_path)
    stop = threading.Event()
    stop.set()

    assert not world.service._pause(3600.0, Awakening(world.service.state), stop)
