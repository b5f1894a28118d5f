"""Models: decoder-only, from a path or with random weights of a fixed seed.

safetensors only, no code from elsewhere, no network: a site mirrors what it allows below
`models_root`, or the hub's cache has it already.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from jobs.catalog import architecture_of, full_config
from jobs.spec import ModelSpec
from worker.failures import Misconfigured

# What the pad and end ids are called is the tokenizer's to say; lengths are the task's.
_LENGTH_KEYS = ("n_positions", "max_position_embeddings", "n_ctx", "seq_length")


def load_model(
    spec: ModelSpec, *, source: Path | str | None, tokenizer: Any, max_length: int
) -> torch.nn.Module:
    """Return the model in float32 on the CPU, with an embedding for every token.

    `source` is what `sources.model_source` found, None for `spec.config`. Raises `Misconfigured`.
    """
    if spec.family not in BUILDERS:
        known = ", ".join(sorted(BUILDERS))
        raise Misconfigured(f"model.family {spec.family!r} cannot be trained yet; known: {known}")
    model = BUILDERS[spec.family](spec, source, tokenizer, max_length)
    _fit_embeddings(model, tokenizer)
    model.config.pad_token_id = tokenizer.pad_token_id
    model.config.use_cache = False
    limit = next((getattr(model.config, k) for k in _LENGTH_KEYS if hasattr(model.config, k)), None)
    if isinstance(limit, int) and limit < max_length:
        raise Misconfigured(
            f"task.max_length {max_length} exceeds the model's {limit} positions: lower it"
        )
    return model


def _decoder(
    spec: ModelSpec, source: Path | str | None, tokenizer: Any, max_length: int
) -> torch.nn.Module:
    from transformers import AutoModelForCausalLM

    if source is None:
        return _with_seed(spec.init_seed, lambda: _from_config(spec, tokenizer))
    try:
        model: torch.nn.Module = AutoModelForCausalLM.from_pretrained(
            str(source),
            revision=spec.revision or "main",
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            dtype=torch.float32,
        )
    except (OSError, ValueError, KeyError) as error:
        raise Misconfigured(
            f"model.path {spec.path!r}: cannot be loaded ({error}); it must be a decoder with"
            " safetensors weights, present locally (models_root of site.yaml or the hub's cache)"
        ) from error
    return model


def _from_config(spec: ModelSpec, tokenizer: Any) -> torch.nn.Module:
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

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
    }
    try:
        config = CONFIG_MAPPING[architecture.name](**given)
        model: torch.nn.Module = AutoModelForCausalLM.from_config(
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


Builder = Callable[[ModelSpec, "Path | str | None", Any, int], torch.nn.Module]
BUILDERS: dict[str, Builder] = {"decoder": _decoder}
