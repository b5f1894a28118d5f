"""Models: of the families that can be trained, from a path or with random weights of a fixed seed.

safetensors only, no code from elsewhere, no network: a site mirrors what it allows below
`models_root`, or the hub's cache has it already.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from jobs.catalog import architecture_of, full_config
from jobs.spec import ModelSpec
from worker.failures import Misconfigured

# What the pad and end ids are called is the tokenizer's to say; lengths are the task's.
AUTO_CLASSES = {
    "decoder": "AutoModelForCausalLM",
    "seq2seq": "AutoModelForSeq2SeqLM",
    "encoder": "AutoModelForSequenceClassification",
}
OPTIONS: dict[str, Any] = {
    "local_files_only": True,
    "trust_remote_code": False,
    "dtype": torch.float32,
}
_LENGTH_KEYS = ("n_positions", "max_position_embeddings", "n_ctx", "seq_length")


def load_model(
    spec: ModelSpec,
    *,
    source: Path | str | None,
    tokenizer: Any,
    max_length: int,
    classes: int = 0,
) -> torch.nn.Module:
    """Return the model in float32 on the CPU, with an embedding for every token.

    `source` is what `sources.model_source` found, None for `spec.config`; `classes`: of an
    encoder's head, which is drawn from `init_seed` where the path has none of that size. Raises
    `Misconfigured`.
    """
    head = {"num_labels": classes} if classes else {}
    model: Any = _with_seed(
        spec.init_seed,
        lambda: (
            _from_config(spec, tokenizer, head)
            if source is None
            else _from_path(spec, source, head)
        ),
    )
    if classes:
        model.config.problem_type = "single_label_classification"
    if spec.dropout is not None:
        _set_dropout(model, spec.dropout)
    _fit_embeddings(model, tokenizer)
    model.config.pad_token_id = tokenizer.pad_token_id
    model.config.use_cache = False
    if model.config.is_encoder_decoder:
        model.config.decoder_start_token_id = _start_of(model, tokenizer)
    limit = next((getattr(model.config, k) for k in _LENGTH_KEYS if hasattr(model.config, k)), None)
    if isinstance(limit, int) and limit < max_length:
        raise Misconfigured(
            f"task.max_length {max_length} exceeds the model's {limit} positions: lower it"
        )
    return model


def _set_dropout(model: torch.nn.Module, share: float) -> None:
    """Set all dropouts: modules, and what attention keeps as a number of its own."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = share
        for name in (
            "dropout",
            "attention_dropout",
            "dropout_prob",
            "dropout_rate",
            "hidden_dropout",
        ):
            if type(getattr(module, name, None)) is float:
                setattr(module, name, share)


def _start_of(model: Any, tokenizer: Any) -> int:
    """Return the token that a decoder begins with: the model's own, else padding, as T5 has it."""
    for config in (model.config, getattr(model, "generation_config", None)):
        found = getattr(config, "decoder_start_token_id", None)
        if isinstance(found, int):
            return found
    return int(tokenizer.pad_token_id)


def auto_class(family: str) -> Any:
    """Return the class of transformers that loads a family's models."""
    return getattr(import_module("transformers"), AUTO_CLASSES[family])


def _from_path(spec: ModelSpec, source: Path | str, head: Mapping[str, int]) -> torch.nn.Module:
    options = {**OPTIONS, **head, "ignore_mismatched_sizes": True} if head else OPTIONS
    try:
        model: torch.nn.Module = auto_class(spec.family).from_pretrained(
            str(source), revision=spec.revision or "main", use_safetensors=True, **options
        )
    except (OSError, ValueError, KeyError) as error:
        raise Misconfigured(
            f"model.path {spec.path!r}: cannot be loaded ({error}); it must be of family"
            f" {spec.family}, with safetensors weights, present locally (models_root of site.yaml"
            " or the hub's cache)"
        ) from error
    return model


def _from_config(spec: ModelSpec, tokenizer: Any, head: Mapping[str, int]) -> torch.nn.Module:
    from transformers import CONFIG_MAPPING

    architecture = architecture_of(spec.family, spec.architecture)
    if architecture is None:
        raise Misconfigured(
            f"model.architecture {spec.architecture!r}: cannot be built from a configuration;"
            " see jobs/catalog.py, or give model.path"
        )
    given = {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": tokenizer.eos_token_id,
        **full_config(architecture, spec.config or {}),
        **head,
    }
    try:
        config = CONFIG_MAPPING[architecture.name](**given)
        model: torch.nn.Module = auto_class(spec.family).from_config(
            config, trust_remote_code=False, dtype=torch.float32
        )
    except (TypeError, ValueError, ZeroDivisionError, RuntimeError) as error:
        raise Misconfigured(f"model.config of {architecture.name}: {error}") from error
    return model


def _with_seed(seed: int, build: Callable[[], torch.nn.Module]) -> torch.nn.Module:
    """Build with torch's generator at `seed`; the caller's generator is as before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def _fit_embeddings(model: Any, tokenizer: Any) -> None:
    rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        # New rows are drawn: from a generator of their own, so that resuming draws the same.
        _with_seed(0, lambda: model.resize_token_embeddings(len(tokenizer)))
