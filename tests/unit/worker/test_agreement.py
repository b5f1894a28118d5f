"""All ranks stop at one step, whoever is told, on a real store."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch.distributed as dist

from jobs.contract.records import Notice
from worker.agreement import EvaluationAgreement, StopAgreement
from worker.channel import Channel
from worker.failures import PeerLost
from worker.store_client import BoundedStore

NOTICE = Notice(cause="preemption")


def run_ranks(
    world: int, body: Callable[[Channel], Any], *, timeout: float = 10.0, tcp: bool = False
) -> list[Any]:
    """Run `body` for each rank on a thread of its own; return the results.

    `tcp`: over a real TCPStore, a connection each. Every 26th connection of a process takes torch
    5 s here, so most tests share a store in memory.
    """
    server = dist.HashStore()
    if tcp:
        server = dist.TCPStore("127.0.0.1", 0, world, is_master=True, wait_for_workers=False)
    results: list[Any] = [None] * world

    def rank(number: int) -> None:
        store = server
        if tcp:
            store = dist.TCPStore("127.0.0.1", server.port, world, wait_for_workers=False)
        bounded = BoundedStore(store, timeout_seconds=timeout)
        channel = Channel(bounded, rank=number, world_size=world, timeout_seconds=timeout)
        try:
            results[number] = body(channel)
        except PeerLost as error:
            results[number] = error

    threads = [threading.Thread(target=rank, args=(number,)) for number in range(world)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    return results


@pytest.mark.parametrize("noticed", [{0}, {1}, {2}, {0, 1}, {1, 2}, {0, 1, 2}])
def test_any_subset_of_notices_stops_all_ranks_at_one_step(noticed: set[int]) -> None:
    """Ranks coupled as by a collective per step; notices come at different steps."""
    world = 3
    collective = threading.Barrier(world)

    def body(channel: Channel) -> int:
        agreement, step = StopAgreement(channel), 0
        while step < 50:
            heard = NOTICE if channel.rank in noticed and step >= 5 + channel.rank else None
            if agreement.poll(step, heard) is not None:
                return step
            try:
                collective.wait(3)  # a rank that does not stop where the others do hangs here
            except threading.BrokenBarrierError:
                return -step
            step += 1
        return step

    stopped = run_ranks(world, body, tcp=len(noticed) == 2)

    first = 5 + min(noticed)
    assert stopped == [first + 2] * world


def test_one_rank_stops_at_its_own_step() -> None:
    """Alone, there is nobody to wait for."""
    assert run_ranks(1, lambda c: StopAgreement(c).poll(3, NOTICE).step) == [3]


def test_the_first_word_stands() -> None:
    """Two notices give one stop."""
    turn = threading.Barrier(2)

    def body(channel: Channel) -> int:
        agreement = StopAgreement(channel)
        if channel.rank == 1:
            turn.wait(10)
        agreement.poll(4 + channel.rank, NOTICE)
        if channel.rank == 0:
            turn.wait(10)
        return agreement.stop.step

    assert run_ranks(2, body) == [6, 6]


@pytest.mark.parametrize("noticed_round", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("coupled", [False, True])
def test_an_evaluation_is_given_up_by_all_or_by_none(coupled: bool, noticed_round: int) -> None:
    """A noticed rank and one that has handed in its share come to the same conclusion."""
    rounds = 4
    collective = threading.Barrier(2)

    def body(channel: Channel) -> bool:
        ticket = channel.ticket("evaluate")
        agreement = EvaluationAgreement(channel, ticket=ticket, rounds=rounds, coupled=coupled)
        for current in range(rounds):
            noticed = channel.rank == 1 and current >= noticed_round
            if agreement.gives_up(current, noticed=noticed):
                return False
            if coupled:
                collective.wait(10)
        shares = channel.collect(ticket, 1, interrupted=agreement.given_up)
        if channel.rank == 0 and shares is None:
            return False
        return channel.tell(ticket, True, interrupted=agreement.given_up) is not None

    finished = run_ranks(2, body)

    ahead = 2 if coupled else 0
    assert finished == [noticed_round + ahead >= rounds] * 2


def test_a_missing_rank_is_named_within_the_bound() -> None:
    """Nothing waits for ever, and the message says for whom it waited."""

    def body(channel: Channel) -> Any:
        if channel.rank == 1:
            return None
        return channel.collect(channel.ticket("save"), {"ok": True})

    error, _ = run_ranks(2, body, timeout=0.3)

    assert isinstance(error, PeerLost)
    assert "save/1" in str(error)


def test_a_silent_store_counts_as_a_lost_peer() -> None:
    """The process that serves the store may be stopped: torch's own client would wait for ever."""
    release = threading.Event()

    class Silent:
        def check(self, keys: list[str]) -> bool:
            release.wait(10)
            return True

    store = BoundedStore(Silent(), timeout_seconds=0.1)
    with pytest.raises(PeerLost, match="no answer"):
        store.check(["stop"])
    release.set()


def test_values_are_collected_and_told() -> None:
    """Rank 0 has all values in rank order; all ranks have its answer; nothing is left behind."""

    def body(channel: Channel) -> Any:
        answers = []
        for _ in range(3):
            ticket = channel.ticket("talk")
            values = channel.collect(ticket, channel.rank * 10)
            answers.append(channel.tell(ticket, values))
        return answers

    assert run_ranks(3, body) == [[[0, 10, 20]] * 3] * 3
