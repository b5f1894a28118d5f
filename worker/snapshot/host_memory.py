"""Memory of the host for copies of a state: kept from save to save, pinned beside a GPU.

Fresh pages cost more than the copying itself, and pinning them more still; a snapshot that is
taken while the training waits should pay neither twice.
"""

from __future__ import annotations

import torch


class HostMemory:
    """Gives out copies of tensors by name; the same name gets the same memory again.

    `keep=False`: every copy has memory of its own.
    """

    def __init__(self, *, keep: bool, pinned: bool = False) -> None:
        self._keep = keep
        self._pinned = pinned
        self._kept: dict[str, torch.Tensor] = {}

    def copy(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        """Return a contiguous copy of `tensor` on the CPU; an earlier one of the name is lost."""
        source = tensor.detach()
        if not self._keep:
            return source.to("cpu", copy=True).contiguous()
        place = self._kept.get(name)
        if place is None or (place.shape, place.dtype) != (source.shape, source.dtype):
            place = torch.empty(source.shape, dtype=source.dtype, pin_memory=self._pinned)
            self._kept[name] = place
        # From a device into pinned memory side by side with other copies, until `finish`.
        place.copy_(source, non_blocking=self._pinned)
        return place

    def finish(self) -> None:
        """Wait until all copies are whole: only then may the training change what was copied."""
        if self._pinned:
            torch.accelerator.synchronize()
