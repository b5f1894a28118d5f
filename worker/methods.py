"""Tuning methods: what of a model is trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from jobs.catalog import ARCHITECTURES, Architecture
from jobs.spec import (
    AdapterSpec,
    ApetSpec,
    BitfitSpec,
    CompacterSpec,
    Ia3Spec,
    LoraSpec,
    MethodSpec,
    ParallelAdapterSpec,
    PrefixSpec,
    PromptSpec,
    SubsetSpec,
)
from worker.adapters import Bottleneck, add_after, add_beside, add_biases, places
from worker.apet import prepare as prepare_apet
from worker.compacter import KroneckerBottleneck, new_rule
from worker.failures import Misconfigured


def apply_method(model: torch.nn.Module, method: MethodSpec, *, seed: int) -> Any:
    """Return the model with `requires_grad` set as the method says; new weights come from `seed`.

    Raises `Misconfigured` when a target does not exist or a budget cannot be met.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = METHODS[method.name](model, method)
    if made is model and _has_classes(model):
        _train_head(model)  # peft's models do it themselves
    return made


def _full(model: Any, method: Any) -> Any:
    for parameter in model.parameters():
        parameter.requires_grad_(requires_grad=True)
    return model


def _lora(model: Any, method: LoraSpec) -> Any:
    from peft import LoraConfig, get_peft_model

    targets = method.targets or default_targets(model.config.model_type)
    config = LoraConfig(
        task_type=_task_type(model),
        r=method.rank,
        lora_alpha=method.alpha,
        lora_dropout=method.dropout,
        target_modules=list(targets) if targets else "all-linear",
        fan_in_fan_out=_is_transposed(model),
    )
    try:
        return get_peft_model(model, config)
    except ValueError as error:
        raise Misconfigured(f"method.targets {list(targets or ())}: {error}") from error


def _ia3(model: Any, method: Ia3Spec) -> Any:
    from peft import IA3Config, get_peft_model

    known = ARCHITECTURES.get(model.config.model_type)
    config = IA3Config(
        task_type=_task_type(model),
        target_modules=_for_peft(model, known.ia3_targets) if known else None,
        feedforward_modules=_for_peft(model, known.ia3_inner) if known else None,
        fan_in_fan_out=_is_transposed(model),
    )
    try:
        return get_peft_model(model, config)
    except ValueError as error:
        kind = model.config.model_type
        raise Misconfigured(
            f"method.name ia3 does not know the modules of {kind}: {error}"
        ) from error


def _for_peft(model: Any, endings: Sequence[str]) -> list[str]:
    """Return endings as peft knows them; where `#` stands for a layer's number, whole names."""
    return [
        name
        for ending in endings
        for name in ([found for found, _ in places(model, [ending])] if "#" in ending else [ending])
    ]


def _prompt(model: Any, method: PromptSpec) -> Any:
    from peft import PromptTuningConfig, get_peft_model

    config = PromptTuningConfig(
        task_type=_task_type(model),
        num_virtual_tokens=method.tokens,
        num_transformer_submodules=1,  # of an encoder-decoder: the encoder
    )
    return get_peft_model(model, config)


def _prefix(model: Any, method: PrefixSpec) -> Any:
    from peft import PrefixTuningConfig, get_peft_model

    config = PrefixTuningConfig(
        task_type=_task_type(model),
        num_virtual_tokens=method.tokens,
        prefix_projection=method.projection,
        encoder_hidden_size=method.projection_size,
    )
    return get_peft_model(model, config)


def _bitfit(model: Any, method: BitfitSpec) -> Any:
    if method.create:
        add_biases(model)
    biases = 0
    for name, parameter in model.named_parameters():
        is_bias = name.rpartition(".")[2] == "bias"
        parameter.requires_grad_(requires_grad=is_bias)
        biases += is_bias
    if not biases:
        kind = model.config.model_type
        raise Misconfigured(f"method bitfit: {kind} has no biases; method.create: true makes some")
    return model


def _adapter(model: Any, method: AdapterSpec) -> Any:
    known = _known(model, method.name)
    _freeze(model)
    names = [name for name, _ in places(model, (*known.attention_ends, known.inner_last))]
    add_after(model, names, lambda width: Bottleneck(width, method.rank))
    return model


def _compacter(model: Any, method: CompacterSpec) -> Any:
    known = _known(model, method.name)
    _freeze(model)
    found = places(model, (*known.attention_ends, known.inner_last))
    odd = next((width for _, width in found if width % method.blocks), None)
    if odd is not None:
        raise Misconfigured(f"method.blocks {method.blocks} does not divide the width {odd}")
    rule = new_rule(method.blocks)
    add_after(
        model,
        [name for name, _ in found],
        lambda width: KroneckerBottleneck(width, method.rank, rule),
    )
    return model


def _parallel_adapter(model: Any, method: ParallelAdapterSpec) -> Any:
    known = _known(model, method.name)
    _freeze(model)
    add_beside(model, known.inner_firsts, known.inner_last, method.rank, scale=method.scale)
    return model


def _apet(model: Any, method: ApetSpec) -> Any:
    made, _ = prepare_apet(model, method, _known(model, method.name))
    if made is not model and _has_classes(model):
        _train_head(model)
    return made


def _known(model: Any, method: str) -> Architecture:
    kind = model.config.model_type
    if kind not in ARCHITECTURES:
        raise Misconfigured(
            f"method {method} knows no modules of {kind}; it knows {', '.join(ARCHITECTURES)}"
        )
    return ARCHITECTURES[kind]


def _freeze(model: torch.nn.Module) -> None:
    for parameter in model.parameters():
        parameter.requires_grad_(requires_grad=False)


def _has_classes(model: Any) -> bool:
    return type(model).__name__.endswith("ForSequenceClassification")


def _train_head(model: Any) -> None:
    """Train an encoder's classification head, whatever the method: it knows no class before."""
    for name in ("pre_classifier", "classifier", "score"):
        head = getattr(model, name, None)
        if head is not None:
            head.requires_grad_(requires_grad=True)


def _task_type(model: Any) -> str:
    if _has_classes(model):
        return "SEQ_CLS"
    return "SEQ_2_SEQ_LM" if model.config.is_encoder_decoder else "CAUSAL_LM"


def _is_transposed(model: Any) -> bool:
    """Return whether linear layers keep their weight as GPT-2 does."""
    return any(type(module).__name__ == "Conv1D" for module in model.modules())


def _subset(model: Any, method: SubsetSpec) -> Any:
    """Train whole tensors in a random order, each that still fits; torch is seeded by the job."""
    named = list(model.named_parameters())
    sizes = [parameter.numel() for _, parameter in named]
    budget = method.parameters
    if not min(sizes) <= budget <= sum(sizes):
        raise Misconfigured(
            f"method.parameters {budget}: the model has {sum(sizes)} parameters and its smallest"
            f" tensor {min(sizes)}; write a number from {min(sizes)} to {sum(sizes)}"
        )
    for _, parameter in named:
        parameter.requires_grad_(requires_grad=False)
    for index in torch.randperm(len(named)).tolist():
        if sizes[index] <= budget:
            budget -= sizes[index]
            named[index][1].requires_grad_(requires_grad=True)
    return model


def default_targets(architecture: str) -> tuple[str, ...] | None:
    """Return the modules that LoRA adapts by default; None: all linear layers."""
    known = ARCHITECTURES.get(architecture)
    return known.lora_targets if known else None


METHODS: dict[str, Callable[[Any, Any], Any]] = {
    "lora": _lora,
    "full": _full,
    "subset": _subset,
    "ia3": _ia3,
    "prompt": _prompt,
    "prefix": _prefix,
    "bitfit": _bitfit,
    "adapter": _adapter,
    "parallel_adapter": _parallel_adapter,
    "compacter": _compacter,
    "apet": _apet,
}
