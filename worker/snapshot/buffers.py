"""Buffers that training changes (running statistics, rescaled position tables).

A buffer that still is as it was built needs no place in a checkpoint: the model is built anew.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from worker.snapshot.digest import tensors_digest
from worker.snapshot.state import Tensors


def buffer_digests(module: torch.nn.Module) -> dict[str, str]:
    """Return the digest of each buffer, persistent or not, by name."""
    return {name: tensors_digest([(name, tensor)]) for name, tensor in module.named_buffers()}


def changed_buffers(buffers: Tensors, initial: Mapping[str, str]) -> Tensors:
    """Return those of the buffers that are no longer as `initial` says."""
    return {
        name: tensor
        for name, tensor in buffers.items()
        if tensors_digest([(name, tensor)]) != initial.get(name)
    }
