"""Adapters of our own: small trained modules beside frozen ones, hung on by hooks.

A hook keeps the adapted module what it is: others look at its weight (T5 asks for its type), and
all names stay. An adapter begins as nothing, since its last layer is zero.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import nn


class Bottleneck(nn.Module):
    """Down to `rank`, ReLU, up again: (…, width) -> (…, width). Zero until it has been trained."""

    def __init__(self, width: int, rank: int) -> None:
        super().__init__()
        self.down = nn.Linear(width, rank)
        self.up = nn.Linear(rank, width)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Return what is added."""
        added: torch.Tensor = self.up(torch.relu(self.down(states)))
        return added


def places(model: nn.Module, endings: Sequence[str]) -> list[tuple[str, int]]:
    """Return the names of the modules that end so, and the widths of what they give."""
    return [(name, _width(module)) for name, module in _named(model, endings)]


def add_after(model: nn.Module, names: Iterable[str], make: Callable[[int], nn.Module]) -> None:
    """Put an adapter after each of these modules (Houlsby et al. 2019, arXiv 1902.00751).

    `make` returns the adapter of a width.
    """
    for name in names:
        module = model.get_submodule(name)
        module.add_module("adapter", make(_width(module)))
        module.register_forward_hook(_after)


def add_beside(
    model: nn.Module, firsts: Sequence[str], last: str, rank: int, *, scale: float
) -> int:
    """Put an adapter beside each feed-forward network (He et al. 2022, arXiv 2110.04366).

    It reads what the network's first layer reads, and adds to what its last one gives.
    """
    entries = [module for _, module in _named(model, firsts)]
    exits = [module for _, module in _named(model, [last])]
    if len(entries) != len(exits):
        return 0
    for first, end in zip(entries, exits, strict=True):
        beside = _Beside(scale)
        end.add_module("adapter", Bottleneck(_width(end), rank))
        first.register_forward_pre_hook(beside.enter)
        end.register_forward_hook(beside.leave)
    return len(exits)


def add_biases(model: nn.Module) -> None:
    """Give each linear layer that has none a bias of zeros (output embeddings excepted)."""
    head = getattr(model, "get_output_embeddings", lambda: None)()
    for module in model.modules():
        if isinstance(module, nn.Linear) and module.bias is None and module is not head:
            module.bias = nn.Parameter(module.weight.new_zeros(module.out_features))


class _Beside:
    """Hands what a feed-forward network reads to the adapter at its end."""

    def __init__(self, scale: float) -> None:
        self._scale = scale
        self._read: torch.Tensor | None = None

    def enter(self, module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        self._read = inputs[0]

    def leave(self, module: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> Any:
        read, self._read = self._read, None
        assert read is not None
        return output + self._scale * module.adapter(read)


def _after(module: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> Any:
    return output + module.adapter(output)


def _named(model: nn.Module, endings: Sequence[str]) -> Iterator[tuple[str, nn.Module]]:
    for name, module in model.named_modules():
        if any(_ends_with(name, ending) for ending in endings):
            yield name, module


def _ends_with(name: str, ending: str) -> bool:
    """Tell whether the last parts of a dotted name are these; `#` is any number."""
    wanted = ending.split(".")
    parts = name.split(".")[-len(wanted) :]
    return len(parts) == len(wanted) and all(
        part.isdigit() if word == "#" else part == word
        for part, word in zip(parts, wanted, strict=True)
    )


def _width(module: Any) -> int:
    """Return the size of what a linear layer gives; GPT-2's keeps it elsewhere."""
    return int(module.out_features if isinstance(module, nn.Linear) else module.nf)
