"""What a rank waits for others is counted while it runs itself, never while it is suspended."""

from __future__ import annotations

import os
import threading
from typing import Any

import pytest

from durable.clock import FakeClock
from worker.failures import PeerLost
from worker.patience import LOOK_SECONDS, Patience, RunningClock
from worker.silence import IdleTime, stands_in_collective
from worker.store_client import BoundedStore


def test_time_that_is_looked_at_counts_in_full() -> None:
    """Looks in short distances add up to the bound."""
    clock = FakeClock()
    patience = Patience(10.0, monotonic=clock.monotonic)
    for _ in range(19):
        clock.advance(0.5)
        assert not patience.over
    clock.advance(0.5)
    assert patience.over


def test_a_suspension_counts_as_one_look() -> None:
    """An hour between two looks is time in which nobody ran."""
    clock = FakeClock()
    patience = Patience(2 * LOOK_SECONDS, monotonic=clock.monotonic)
    clock.advance(3600)
    assert patience.look() == LOOK_SECONDS
    clock.advance(LOOK_SECONDS)
    assert patience.over


def watched(*, cpu: float, inside: bool, seconds: float = 0.25, times: int = 40) -> list[bool]:
    """Look at a thread that uses `cpu` seconds from look to look; the bound is 2 s."""
    clock, used = FakeClock(), 5.0
    idle = IdleTime(2.0, monotonic=clock.monotonic)
    said = []
    for _ in range(times):
        clock.advance(seconds)
        used += cpu
        said.append(idle.look(cpu=used, inside=inside))
    return said


def test_who_waits_in_a_collective_uses_no_processor() -> None:
    """Only a thread that is idle there is out of patience, and only after the bound."""
    assert watched(cpu=0.0, inside=True).index(True) in (8, 9)
    assert not any(watched(cpu=0.0, inside=False))  # a disk, say: bounded elsewhere
    assert not any(watched(cpu=0.01, inside=True))


def test_a_suspended_collective_goes_on() -> None:
    """Three times the bound without a look is no idleness."""
    clock = FakeClock()
    idle = IdleTime(2.0, monotonic=clock.monotonic)
    idle.look(cpu=1.0, inside=True)
    clock.advance(0.5)
    assert not idle.look(cpu=1.0, inside=True)
    clock.advance(6.0)
    assert not idle.look(cpu=1.0, inside=True)
    clock.advance(0.5)
    assert not idle.look(cpu=1.1, inside=True)  # the other ranks came


def test_where_a_thread_stands_is_seen() -> None:
    """The module of the innermost Python frame tells a collective from a disk."""
    gate = threading.Lock()
    gate.acquire()
    scope: dict[str, Any] = {"__name__": "torch.distributed.distributed_c10d"}
    exec("def wait(wait_in_c):\n    wait_in_c()\n", scope)
    thread = threading.Thread(target=scope["wait"], args=(gate.acquire,))
    thread.start()
    try:
        ident = thread.ident
        assert ident is not None
        while not stands_in_collective(ident):  # it is on its way there
            os.sched_yield()
        assert not stands_in_collective(threading.get_ident())
        assert not stands_in_collective(-1)
    finally:
        gate.release()
        thread.join()


def test_a_store_that_is_silent_is_given_up() -> None:
    """The bound holds, and a late answer is not taken for that of the next question."""
    asked, answer = threading.Event(), threading.Event()

    class Slow:
        def check(self, keys: list[str]) -> bool:
            asked.set()
            answer.wait()
            return True

    store = BoundedStore(Slow(), timeout_seconds=0.05)
    with pytest.raises(PeerLost, match="no answer"):
        store.check(["a"])
    assert asked.is_set()
    answer.set()


def test_what_a_save_takes_does_not_count_a_suspension(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the next notice would leave its save out: it seems to take an hour."""
    monkeypatch.setattr(RunningClock, "_tick", lambda self: None)
    clock = FakeClock()
    running = RunningClock(monotonic=clock.monotonic)
    began = running.now()
    clock.advance(3600)
    assert running.now() - began == 3600  # nobody ticks yet: a gap means nothing
    running.watched()
    began = running.now()
    for _ in range(4):
        clock.advance(LOOK_SECONDS)
        running.now()
    clock.advance(3600)
    assert running.now() - began == 5 * LOOK_SECONDS
