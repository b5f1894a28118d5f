"""The data order is a pure function: nothing to replay, nothing to lose."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.order import DataOrder, permutation

sizes = st.integers(1, 60)
seeds = st.integers(0, 2**63)


@given(seed=seeds, data_epoch=st.integers(0, 1000), samples=sizes)
def test_each_data_epoch_is_a_permutation(seed: int, data_epoch: int, samples: int) -> None:
    """Every sample comes once."""
    order = permutation(seed, data_epoch, samples)

    assert sorted(order.tolist()) == list(range(samples))


@given(seed=seeds, samples=sizes, batch=st.integers(1, 16), epochs=st.integers(1, 4))
def test_no_sample_is_dropped_or_repeated_within_a_data_epoch(
    seed: int, samples: int, batch: int, epochs: int
) -> None:
    """After whole data epochs every sample was seen as often, though batches straddle them."""
    order = DataOrder(seed=seed, samples=samples, global_batch=batch)
    steps = -(-samples * epochs // batch)
    stream = [sample for step in range(1, steps + 1) for sample in order.global_samples(step)]

    assert Counter(stream[: samples * epochs]) == dict.fromkeys(range(samples), epochs)


cuts = st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 3))


@given(seed=seeds, samples=sizes, step=st.integers(1, 10**12), cut=cuts)
def test_ranks_and_micro_steps_share_out_the_global_batch(
    seed: int, samples: int, step: int, cut: tuple[int, int, int]
) -> None:
    """Whatever the cut, a step's samples are the same, and any step is reached at once."""
    world, micros, size = cut
    order = DataOrder(seed=seed, samples=samples, global_batch=world * micros * size)
    parts = [
        order.micro_batch(step, rank=rank, world_size=world, micro=micro, size=size)
        for micro in range(micros)
        for rank in range(world)
    ]

    assert [sample for part in parts for sample in part] == order.global_samples(step)


def test_the_order_is_the_one_of_earlier_releases() -> None:
    """A change would make every half-done run resume into another order."""
    order = DataOrder(seed=7, samples=10, global_batch=4)

    assert [order.global_samples(step) for step in (1, 2, 3)] == RELEASED
    assert order.digest == RELEASED_DIGEST


def test_orders_differ_by_seed_and_data_epoch() -> None:
    """Otherwise seeds would not be repetitions, and data epochs would repeat their batches."""
    orders = {tuple(permutation(seed, epoch, 50)) for seed in range(5) for epoch in range(5)}

    assert len(orders) == 25


def test_an_empty_data_set_is_refused() -> None:
    """There is no order of nothing."""
    with pytest.raises(ValueError, match="no training samples"):
        DataOrder(seed=1, samples=0, global_batch=1)


RELEASED = [[5, 1, 4, 7], [0, 6, 3, 2], [8, 9, 2, 7]]
RELEASED_DIGEST = "sha256:39d3b7401fac3de7e7bcf88509970442a4b9ef13edd03d0195a26f294647380e"
