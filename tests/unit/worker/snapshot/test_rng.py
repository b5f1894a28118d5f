"""All global generators go on where they were, from tensors and plain numbers alone."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from worker.snapshot.rng import capture_rng, restore_rng
from worker.snapshot.state import SnapshotMismatch


@pytest.fixture(autouse=True)
def _own_generators() -> Iterator[None]:
    before = capture_rng()
    yield
    restore_rng(*before)


def _draw() -> list[Any]:
    return [
        random.random(),
        random.gauss(0, 1),
        float(np.random.rand()),
        float(np.random.standard_normal()),
        torch.randn(5).tolist(),
    ]


@pytest.mark.parametrize("before", [0, 1])
def test_draws_repeat_after_a_restore(before: int) -> None:
    """Also with a gaussian in the cache: python and numpy draw those in pairs."""
    for _ in range(before):
        random.gauss(0, 1)
        np.random.standard_normal()
    tensors, plain = capture_rng()
    plain = json.loads(json.dumps(plain))
    first = _draw()
    _draw()
    restore_rng(tensors, plain)

    assert _draw() == first


def test_a_captured_state_does_not_move() -> None:
    """It is a copy: drawing afterwards leaves it alone."""
    tensors, _ = capture_rng()
    copies = {name: tensor.clone() for name, tensor in tensors.items()}
    _draw()

    assert all(torch.equal(tensors[name], copies[name]) for name in tensors)


def _changed(name: str, value: Any) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    tensors, plain = capture_rng()
    if name in tensors and isinstance(value, torch.Tensor):
        return tensors | {name: value}, plain
    return tensors, plain | {name: value}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("python", torch.zeros(3, dtype=torch.int64)),
        ("python", torch.full((625,), 2**33)),
        ("python", torch.full((625,), -1)),
        ("python", {"version": 1, "gauss_next": None}),
        ("numpy", torch.zeros(624)),
        ("numpy", {"kind": "PCG64", "position": 0, "has_gauss": 0, "cached": 0.0}),
        ("numpy", {"kind": "MT19937"}),
        ("torch", torch.zeros(7, dtype=torch.uint8)),
        ("device", "cuda"),
    ],
)
def test_wrong_states_are_refused_before_any_generator_moves(name: str, value: Any) -> None:
    """Nothing is half restored; the message names the generator."""
    wrong = _changed(name, value)
    tensors, plain = capture_rng()
    with pytest.raises(SnapshotMismatch, match=name if name != "device" else "cuda"):
        restore_rng(*wrong)
    after, after_plain = capture_rng()

    assert plain == after_plain
    assert all(torch.equal(tensors[key], after[key]) for key in tensors)


def test_missing_and_surplus_generators_are_refused() -> None:
    """A state of another kind of machine is not silently half used."""
    tensors, plain = capture_rng()
    for wrong in ({**tensors, "more": torch.zeros(1)}, {"torch": tensors["torch"]}):
        with pytest.raises(SnapshotMismatch, match="needs"):
            restore_rng(wrong, plain)
