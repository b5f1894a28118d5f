"""The parts of a safetensors file are the bytes that safetensors writes."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load, save

from worker.snapshot.host_memory import HostMemory
from worker.snapshot.tensor_file import _TYPES, tensor_file


def _zoo() -> dict[str, torch.Tensor]:
    every = {f"{i % 5}/{i}": torch.arange(7).to(kind) for i, kind in enumerate(_TYPES)}
    odd = {
        "scalar": torch.tensor(1.5),
        "empty": torch.zeros(0, 3),
        'né"\\\n': torch.ones(3, 2, dtype=torch.bfloat16),
        "b": torch.arange(5, dtype=torch.int16),
        "a": torch.tensor([True, False, True]),
    }
    return every | odd


@pytest.mark.parametrize(
    "tensors",
    [
        _zoo(),
        {},
        {"one": torch.randn(3)},
        {"exotic": torch.zeros(2, dtype=torch.complex64), "w": torch.ones(1)},
    ],
    ids=["zoo", "nothing", "one", "unknown-type"],
)
def test_the_parts_are_what_safetensors_writes(tensors: dict[str, torch.Tensor]) -> None:
    """So a checkpoint is the same file, whichever version wrote it."""
    data = b"".join(tensor_file(tensors))

    assert data == save(tensors)
    for name, tensor in load(data).items():
        assert torch.equal(tensor, tensors[name])


def test_memory_is_kept_for_a_name_and_shape() -> None:
    """The next save writes over the copies of the last one; another shape gets its own."""
    memory = HostMemory(keep=True)
    source = torch.arange(6.0).reshape(2, 3).t()  # not contiguous
    first = memory.copy("w", source)
    source.add_(1)

    assert first.is_contiguous()
    assert torch.equal(first, source - 1)
    assert memory.copy("w", source).data_ptr() == first.data_ptr()
    assert torch.equal(first, source)
    assert memory.copy("w", source[:2]).data_ptr() != first.data_ptr()
    assert memory.copy("v", source).data_ptr() != first.data_ptr()


def test_without_keeping_every_copy_is_its_own() -> None:
    """As a state must be that is held beside a later one."""
    memory = HostMemory(keep=False)
    source = torch.zeros(4)
    assert memory.copy("w", source).data_ptr() != memory.copy("w", source).data_ptr()
