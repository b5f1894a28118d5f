"""What a rank's training state is made of, and how taking it apart can fail.

SnapshotError(ValueError)
├── UnsupportedEngine    the engine's optimizer is none that we can take apart
├── NotAtBoundary        asked inside an accumulation window, or with borrowed weights
├── SnapshotBroken       the bytes are not a snapshot (truncated, not safetensors, no JSON)
└── SnapshotMismatch     the snapshot is whole and belongs to another engine
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

Tensors = dict[str, torch.Tensor]
FORMAT = 1


class SnapshotError(ValueError):
    """A training state cannot be captured or restored; the message names the tensor or field."""


class UnsupportedEngine(SnapshotError):
    """The engine's optimizer is not on the allow-list of `worker.snapshot.parts`."""


class NotAtBoundary(SnapshotError):
    """State exists between optimizer steps only."""


class SnapshotBroken(SnapshotError):
    """The bytes are not a snapshot."""


class SnapshotMismatch(SnapshotError):
    """The snapshot belongs to another model, layout or version; nothing was changed.

    `entries`: what does not fit, each with the words for it.
    """

    def __init__(self, message: str, *, entry: str = "engine") -> None:
        super().__init__(message)
        self.entries: tuple[tuple[str, str], ...] = ((entry, message),)

    @classmethod
    def of(cls, mismatches: Sequence[SnapshotMismatch]) -> SnapshotMismatch:
        """Return several as one."""
        whole = cls("; ".join(str(one) for one in mismatches))
        whole.entries = tuple(entry for one in mismatches for entry in one.entries)
        return whole


@dataclass(frozen=True, slots=True, kw_only=True)
class RankState:
    """One rank's training state at a step boundary, on the CPU, sharing no memory with it.

    `model`: trained tensors by parameter name (empty where another rank's file has them, and
    under ZeRO-3, whose masters hold everything). `optimizer`: fp32 masters and inner state.
    `rng`: generator states. `buffers`: the module's buffers that training has changed. `state`:
    plain JSON values: counters, hyper-parameters, and type and shape of everything above.
    """

    model: Tensors
    optimizer: Tensors
    rng: Tensors
    buffers: Tensors
    state: dict[str, Any]
