"""APET: as many parameters as a known method has, at arbitrary places (Su et al. 2023).

arXiv 2306.02320. Half of the budget goes to inserted modules (LoRA pairs, adapters), half to
tensors of the model itself; both are drawn. The budget is counted on the model at hand, never
looked up. A module that was not drawn is not inserted: untrained it would add nothing anyway.

Unlike the published greedy draw, which takes a group when its first tensor fits, a group is taken
when all of it fits: the budget is never exceeded. With `masks` it is met exactly, by single
elements of one more tensor.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from torch.nn.utils import parametrize

from jobs.catalog import Architecture
from jobs.spec import ApetSpec
from worker.adapters import Bottleneck, add_after, places
from worker.failures import Misconfigured


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """An inserted module that may be drawn, as a whole."""

    kind: Literal["lora", "adapter"]
    place: str  # name of the module that it is put on
    size: int  # trained elements


@dataclass(frozen=True, slots=True, kw_only=True)
class Picks:
    """What was drawn. `elements`: so many of a tensor's, by the tensor's name."""

    groups: tuple[Group, ...]
    tensors: tuple[str, ...]
    elements: tuple[str, int] | None = None


class ElementDelta(nn.Module):
    """Adds trained numbers to chosen elements of a frozen tensor.

    The parameter's name holds a digest of the choice, and so do checkpoints.
    """

    def __init__(self, index: torch.Tensor) -> None:
        super().__init__()
        said = hashlib.sha256(index.numpy().tobytes()).hexdigest()[:12]
        self._name = f"delta_{said}"
        self.register_parameter(self._name, nn.Parameter(torch.zeros(len(index))))
        self.register_buffer("index", index)

    def forward(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the tensor with the numbers added."""
        flat, delta = tensor.reshape(-1), getattr(self, self._name)
        index = self.get_buffer("index")
        return flat.scatter(0, index, flat[index] + delta.to(flat.dtype)).view_as(tensor)


def budget_of(model: Any, method: ApetSpec, known: Architecture) -> int:
    """Return how many elements may be trained, counted on the model."""
    if isinstance(method.budget, int):
        return method.budget
    groups = list(insertable(model, method, known))
    if method.budget == "soft_prompt":
        return method.soft_prompt_tokens * int(model.get_input_embeddings().weight.shape[1])
    if method.budget == "bitfit":
        return _biases(model)
    return sum(group.size for group in groups if group.kind == method.budget)


def _biases(model: nn.Module) -> int:
    """Return the elements of all biases; of linear layers' that could be made, if there is none."""
    named = model.named_parameters()
    own = sum(p.numel() for name, p in named if name.rpartition(".")[2] == "bias")
    linear = (m for m in model.modules() if isinstance(m, nn.Linear))
    return own or sum(module.out_features for module in linear)


def insertable(model: nn.Module, method: ApetSpec, known: Architecture) -> Iterator[Group]:
    """Yield what could be inserted: LoRA on each target, an adapter after each sub-layer."""
    for place, _ in places(model, known.lora_targets):
        weight = model.get_submodule(place).weight
        assert isinstance(weight, torch.Tensor)
        yield Group(kind="lora", place=place, size=method.lora_rank * sum(weight.shape))
    for place, width in places(model, (*known.attention_ends, known.inner_last)):
        size = 2 * width * method.adapter_rank + method.adapter_rank + width
        yield Group(kind="adapter", place=place, size=size)


def draw(
    groups: Sequence[Group],
    tensors: Sequence[tuple[str, int]],
    *,
    budget: int,
    masks: Sequence[str] | None,
    generator: torch.Generator,
) -> Picks:
    """Return what is trained, in the order of the draw. Pure but for the generator.

    `tensors`: name and size; `masks`: those of which single elements may be trained, None: of
    none. Raises `Misconfigured` where one half of the budget would stay empty.
    """
    left = budget // 2
    taken = []
    for place in torch.randperm(len(groups), generator=generator).tolist():
        if groups[place].size <= left:
            taken.append(groups[place])
            left -= groups[place].size
    exact, maskable = masks is not None, masks or ()
    if not taken and not exact:
        raise _too_small("inserted module", budget, min((g.size for g in groups), default=0))
    left = budget - sum(group.size for group in taken) if exact else budget // 2
    chosen, rest = [], []
    for place in torch.randperm(len(tensors), generator=generator).tolist():
        name, size = tensors[place]
        if size <= left:
            chosen.append(name)
            left -= size
        else:
            rest.append(name)
    if not chosen and not exact:
        raise _too_small("tensor of the model", budget, min(size for _, size in tensors))
    if not exact or not left:
        return Picks(groups=tuple(taken), tensors=tuple(chosen))
    masked = next((name for name in rest if name in maskable), None)
    if masked is None:
        raise Misconfigured(f"method.budget {budget}: the model has not so many parameters")
    return Picks(groups=tuple(taken), tensors=tuple(chosen), elements=(masked, left))


def _too_small(what: str, budget: int, least: int) -> Misconfigured:
    return Misconfigured(
        f"method.budget {budget}: no {what} fits into half of it ({budget // 2}); the smallest has"
        f" {least} elements: write at least {2 * least}, or method.masks: true"
    )


def prepare(model: Any, method: ApetSpec, known: Architecture) -> tuple[Any, Picks]:
    """Return the model with what was drawn inserted and `requires_grad` set, and the draw.

    torch's generator is at the job's seed, which decides unless `method.pick_seed` is given.
    """
    seed = torch.initial_seed() if method.pick_seed is None else method.pick_seed
    generator = torch.Generator().manual_seed(seed)
    tensors = [(n, p) for n, p in model.named_parameters() if not n.startswith("classifier.")]
    picks = draw(
        list(insertable(model, method, known)),
        [(name, parameter.numel()) for name, parameter in tensors],
        budget=budget_of(model, method, known),
        masks=list(_maskable(model, known)) if method.masks else None,
        generator=generator,
    )
    trained = [p for name, p in tensors if name in picks.tensors]
    for parameter in model.parameters():
        parameter.requires_grad_(requires_grad=False)
    if picks.elements is not None:
        trained.append(_mask(model, *picks.elements, generator=generator))
    adapted = [group.place for group in picks.groups if group.kind == "adapter"]
    add_after(model, adapted, lambda width: Bottleneck(width, method.adapter_rank))
    for place in adapted:
        trained += model.get_submodule(place).adapter.parameters()
    pairs = [group.place for group in picks.groups if group.kind == "lora"]
    made = _with_pairs(model, pairs, method.lora_rank) if pairs else model
    for parameter in trained:
        parameter.requires_grad_(requires_grad=True)
    return made, picks


def _maskable(model: nn.Module, known: Architecture) -> Iterator[str]:
    """Yield tensors of which a part may be trained: of no shared one, and no LoRA target's."""
    targets = {name for name, _ in places(model, known.lora_targets)}
    for name, module in model.named_modules():
        if isinstance(module, nn.Embedding) or name in targets:
            continue
        if module is getattr(model, "lm_head", None):
            continue
        for own, _ in module.named_parameters(recurse=False):
            yield f"{name}.{own}"


def _mask(model: nn.Module, name: str, count: int, *, generator: torch.Generator) -> nn.Parameter:
    module, _, own = name.rpartition(".")
    parent = model.get_submodule(module)
    size = getattr(parent, own).numel()
    index = torch.randperm(size, generator=generator)[:count].sort().values
    delta = ElementDelta(index)
    parametrize.register_parametrization(parent, own, delta)
    (parameter,) = delta.parameters()
    return parameter


def _with_pairs(model: Any, targets: Sequence[str], rank: int) -> Any:
    from peft import LoraConfig, get_peft_model

    transposed = any(type(module).__name__ == "Conv1D" for module in model.modules())
    config = LoraConfig(
        r=rank, lora_alpha=2 * rank, target_modules=list(targets), fan_in_fan_out=transposed
    )
    return get_peft_model(model, config)
