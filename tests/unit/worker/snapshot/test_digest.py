"""Digests see every name, type, shape and byte, and nothing else."""

from __future__ import annotations

import hashlib

import torch

from worker.snapshot.buffers import buffer_digests, changed_buffers
from worker.snapshot.digest import base_digest, mapping_digest, tensors_digest


def test_the_digest_is_the_documented_text() -> None:
    """One line of JSON, then the bytes: anyone can compute it without this code."""
    tensor = torch.tensor([[1.0, 2.0]])
    text = b'["w","float32",[1,2]]\n' + bytes.fromhex("0000803f00000040")

    assert mapping_digest({"w": tensor}) == "sha256:" + hashlib.sha256(text).hexdigest()


def test_every_difference_shows() -> None:
    """Name, type, shape, one bit, the sign of zero, the split between tensors."""
    one = torch.tensor([1.0, 0.0, 3.0, 4.0])
    variants = [
        {"w": one},
        {"v": one},
        {"w": one.double()},
        {"w": one.view(torch.int32)},
        {"w": one.reshape(2, 2)},
        {"w": torch.tensor([1.0, -0.0, 3.0, 4.0])},
        {"w": one[:2], "x": one[2:]},
        {"w": one, "x": torch.zeros(0)},
        {},
    ]

    assert len({mapping_digest(variant) for variant in variants}) == len(variants)


def test_order_of_insertion_and_memory_layout_do_not_show() -> None:
    """Equal values are equal, however they lie in memory."""
    a, b = torch.arange(6.0).reshape(2, 3), torch.tensor(5.0, dtype=torch.bfloat16)

    assert mapping_digest({"a": a, "b": b}) == mapping_digest({"b": b, "a": a})
    transposed = torch.arange(6.0).reshape(2, 3).t().contiguous().t()
    assert mapping_digest({"a": a}) == mapping_digest({"a": transposed})


def test_scalars_and_not_a_number_have_digests() -> None:
    """A zero-dimensional step count and a diverged weight are state like any other."""
    assert mapping_digest({"s": torch.tensor(3.0)}) != mapping_digest({"s": torch.tensor([3.0])})
    nan = torch.tensor([float("nan")])
    assert mapping_digest({"s": nan}) == mapping_digest({"s": nan.clone()})


def test_the_base_is_what_is_frozen() -> None:
    """Training the trained part leaves it alone; a change of a frozen weight does not."""
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    model[0].requires_grad_(False)
    before = base_digest(model)
    with torch.no_grad():
        model[1].weight.add_(1)
    same = base_digest(model)
    with torch.no_grad():
        model[0].bias.add_(1)

    assert before == same != base_digest(model)
    assert base_digest(model[1]) == tensors_digest([])


def test_only_changed_buffers_are_state() -> None:
    """Running statistics are; tables that the model rebuilds are not."""
    module = torch.nn.BatchNorm1d(3)
    module.register_buffer("table", torch.arange(4), persistent=False)
    initial = buffer_digests(module)

    assert changed_buffers(dict(module.named_buffers()), initial) == {}
    module(torch.randn(5, 3))
    changed = changed_buffers(dict(module.named_buffers()), initial)
    assert sorted(changed) == ["num_batches_tracked", "running_mean", "running_var"]
