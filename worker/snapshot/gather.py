"""Whole parameters, wherever ZeRO keeps their pieces."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext

import torch


def is_partitioned(parameter: torch.nn.Parameter) -> bool:
    """Return whether ZeRO-3 manages the parameter (its data may be empty)."""
    return hasattr(parameter, "ds_id")


def whole(
    parameter: torch.nn.Parameter, *, modifier_rank: int | None = None
) -> AbstractContextManager[None]:
    """Make `parameter.data` whole inside the context. Collective under ZeRO-3.

    With `modifier_rank` that rank's changes are given to all when the context ends.
    """
    if not is_partitioned(parameter):
        return nullcontext()
    from deepspeed.runtime.zero import GatheredParameters

    context: AbstractContextManager[None] = GatheredParameters(
        [parameter], modifier_rank=modifier_rank
    )
    return context


def gathered(
    parameters: Iterable[tuple[str, torch.nn.Parameter]],
) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield `(name, whole tensor)` one by one; a tensor is valid until the next is asked for.

    One at a time: the whole model need not fit. Every rank must exhaust the iterator.
    """
    for name, parameter in parameters:
        with whole(parameter):
            yield name, parameter.detach()
