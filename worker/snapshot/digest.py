"""Digests of tensors: what makes two runs' weights comparable in one line."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import torch

from worker.snapshot.gather import gathered

if TYPE_CHECKING:
    from worker.engine import Engine


def tensor_bytes(tensor: torch.Tensor) -> memoryview:
    """Return the tensor's elements in row-major order as bytes (host byte order)."""
    flat = tensor.detach().to("cpu").contiguous().reshape(-1)
    return memoryview(flat.view(torch.uint8).numpy())


def tensors_digest(tensors: Iterable[tuple[str, torch.Tensor]]) -> str:
    """Return `sha256:hex` over name, type, shape and bytes of each tensor, in the order given."""
    digest = hashlib.sha256()
    for name, tensor in tensors:
        # JSON keeps the parts of the header apart, so that no two lists share a text.
        head = [name, str(tensor.dtype).removeprefix("torch."), list(tensor.shape)]
        digest.update(json.dumps(head, separators=(",", ":")).encode() + b"\n")
        digest.update(tensor_bytes(tensor))
    return f"sha256:{digest.hexdigest()}"


def mapping_digest(tensors: Mapping[str, torch.Tensor]) -> str:
    """Return `tensors_digest` in the order of the names."""
    return tensors_digest(sorted(tensors.items()))


def weights_digest(engine: Engine) -> str:
    """Return the digest of the full trained tensors, sorted by name. Collective under ZeRO-3.

    Same value on every rank and for every layout that holds the same weights.
    """
    return tensors_digest(gathered(engine.trained_parameters()))


def base_digest(model: torch.nn.Module) -> str:
    """Return the digest of all frozen parameters, sorted by name.

    Names as peft leaves them. Take it before `build_engine`, which may cast or partition them
    (collective under ZeRO-3 then). The digest of no tensors means: everything is trained.
    """
    return tensors_digest(
        gathered(sorted((n, p) for n, p in model.named_parameters() if not p.requires_grad))
    )
