"""How big a job's checkpoints will be before anything is trained: by headers and arithmetic.

The figures are upper bounds: what AdamW keeps of every trained element in 32 bits, and a file of
the best weights where the test uses those. What cannot be told is None, never a guess.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

from jobs.catalog import ConfigValue, architecture_of, full_config
from jobs.spec import FullSpec, LoraSpec, ModelSpec, Run, Semantic, SubsetSpec

Shapes = dict[str, tuple[int, ...]]
RANK_BYTES = 64 << 10  # random states and JSON of a rank
_MAX_HEADER = 100_000_000  # of a safetensors file, by its specification
_NO_LINEAR = ("embed", "wte", "wpe", "lm_head", "word_embeddings", "norm", "ln_")


def trained_elements(semantic: Semantic, shapes: Shapes) -> int | None:
    """Return how many elements are trained, of a model's parameters; None: not known."""
    method = semantic.method
    if isinstance(method, FullSpec):
        return sum(math.prod(shape) for shape in shapes.values())
    if isinstance(method, SubsetSpec):
        return method.parameters
    if not isinstance(method, LoraSpec):
        return None
    model = semantic.model
    known = architecture_of(model.family, model.architecture) if model.config is not None else None
    targets = method.targets or (known.lora_targets if known else None)
    adapted = 0
    for name, shape in shapes.items():
        module, _, kind = name.rpartition(".")
        if kind != "weight" or len(shape) != 2:
            continue
        last = module.rpartition(".")[2]
        linear = not any(word in module for word in _NO_LINEAR)
        if last in targets if targets else linear:
            adapted += method.rank * sum(shape)
    return adapted


def checkpoint_bytes(semantic: Semantic, elements: int) -> int:
    """Return the size of one checkpoint, of all ranks together."""
    engine = semantic.engine
    width = 4 if engine.precision == "fp32" else 2
    model = 0 if engine.zero_stage == 3 else width  # the masters hold everything
    masters = 0 if engine.zero_stage == 0 and engine.precision == "fp32" else 4
    moments = 8
    best = 4 if semantic.train.select == "best" else 0
    return elements * (model + masters + moments + best) + engine.ranks * RANK_BYTES


def peak_bytes(semantic: Semantic, run: Run, each: int) -> int:
    """Return what a job needs at most: what is kept, one that is written, and milestones."""
    every = run.save.keep_every_steps
    milestones = 0 if every is None else semantic.train.steps // every
    return each * (run.save.keep + 1 + milestones)


def model_shapes(semantic: Semantic, directory: Path | None) -> Shapes | None:
    """Return the parameters of the job's model; see `shapes_of`."""
    return shapes_of(semantic.model, directory)


def shapes_of(model: ModelSpec, directory: Path | None) -> Shapes | None:
    """Return the parameters of a model; `directory`: where a `model.path` lies.

    A vocabulary that is learned may turn out smaller. None: the architecture is not known here, or
    the files do not say it.
    """
    if model.config is None:
        return _stored_shapes(directory) if directory is not None else None
    known = architecture_of(model.family, model.architecture)
    if known is None or known.name not in _SHAPES:
        return None
    return _SHAPES[known.name](full_config(known, model.config), model.tokenizer.vocab_size)


def _stored_shapes(directory: Path) -> Shapes | None:
    """Return what the headers of safetensors files say."""
    shapes: Shapes = {}
    try:
        for path in sorted(directory.glob("*.safetensors")):
            with path.open("rb") as file:
                (length,) = struct.unpack("<Q", file.read(8))
                if length > _MAX_HEADER:
                    return None
                header = json.loads(file.read(length))
            shapes |= {
                name: tuple(int(size) for size in value["shape"])
                for name, value in header.items()
                if name != "__metadata__"
            }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error):
        return None
    return shapes or None


def _integer(config: Mapping[str, ConfigValue], key: str, default: int = 0) -> int:
    return int(config.get(key, default))


def _linear(name: str, inputs: int, outputs: int, *, bias: bool = True) -> Shapes:
    weight: Shapes = {f"{name}.weight": (outputs, inputs)}
    return weight | ({f"{name}.bias": (outputs,)} if bias else {})


def _norm(name: str, size: int) -> Shapes:
    return {f"{name}.weight": (size,), f"{name}.bias": (size,)}


def _gpt2(config: Mapping[str, ConfigValue], vocabulary: int) -> Shapes:
    size = _integer(config, "n_embd")
    inner = _integer(config, "n_inner", 4 * size)
    shapes: Shapes = {"wte.weight": (vocabulary, size)}
    shapes |= {"wpe.weight": (_integer(config, "n_positions"), size)} | _norm("ln_f", size)
    for layer in range(_integer(config, "n_layer")):
        at = f"h.{layer}"
        shapes |= _norm(f"{at}.ln_1", size) | _norm(f"{at}.ln_2", size)
        shapes |= _linear(f"{at}.attn.c_attn", size, 3 * size)
        shapes |= _linear(f"{at}.attn.c_proj", size, size)
        shapes |= _linear(f"{at}.mlp.c_fc", size, inner)
        shapes |= _linear(f"{at}.mlp.c_proj", inner, size)
    return shapes


def _llama(config: Mapping[str, ConfigValue], vocabulary: int) -> Shapes:
    size, inner = _integer(config, "hidden_size"), _integer(config, "intermediate_size")
    heads = _integer(config, "num_attention_heads")
    narrow = size // heads * _integer(config, "num_key_value_heads", heads)
    shapes: Shapes = {"embed_tokens.weight": (vocabulary, size)}
    shapes["norm.weight"] = (size,)
    if not config.get("tie_word_embeddings"):
        shapes["lm_head.weight"] = (vocabulary, size)
    for layer in range(_integer(config, "num_hidden_layers")):
        at = f"layers.{layer}"
        shapes |= {f"{at}.{name}.weight": (size,) for name in ("norm_1", "norm_2")}
        for name, inputs, outputs in (
            ("q_proj", size, size),
            ("k_proj", size, narrow),
            ("v_proj", size, narrow),
            ("o_proj", size, size),
            ("gate_proj", size, inner),
            ("up_proj", size, inner),
            ("down_proj", inner, size),
        ):
            shapes |= _linear(f"{at}.{name}", inputs, outputs, bias=False)
    return shapes


def _opt(config: Mapping[str, ConfigValue], vocabulary: int) -> Shapes:
    size, inner = _integer(config, "hidden_size"), _integer(config, "ffn_dim")
    positions = _integer(config, "max_position_embeddings") + 2
    shapes: Shapes = {
        "embed_tokens.weight": (vocabulary, size),
        "embed_positions.weight": (positions, size),
    }
    shapes |= _norm("final_layer_norm", size)
    for layer in range(_integer(config, "num_hidden_layers")):
        at = f"layers.{layer}"
        shapes |= _norm(f"{at}.norm_1", size) | _norm(f"{at}.norm_2", size)
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes |= _linear(f"{at}.{name}", size, size)
        shapes |= _linear(f"{at}.fc1", size, inner) | _linear(f"{at}.fc2", inner, size)
    return shapes


def _bloom(config: Mapping[str, ConfigValue], vocabulary: int) -> Shapes:
    size = _integer(config, "hidden_size")
    shapes: Shapes = {"word_embeddings.weight": (vocabulary, size)}
    shapes |= _norm("word_embeddings_layernorm", size) | _norm("ln_f", size)
    for layer in range(_integer(config, "n_layer")):
        at = f"h.{layer}"
        shapes |= _norm(f"{at}.ln_1", size) | _norm(f"{at}.ln_2", size)
        shapes |= _linear(f"{at}.attention.query_key_value", size, 3 * size)
        shapes |= _linear(f"{at}.attention.dense", size, size)
        shapes |= _linear(f"{at}.mlp.dense_h_to_4h", size, 4 * size)
        shapes |= _linear(f"{at}.mlp.dense_4h_to_h", 4 * size, size)
    return shapes


_SHAPES: dict[str, Callable[[Mapping[str, ConfigValue], int], Shapes]] = {
    "gpt2": _gpt2,
    "llama": _llama,
    "opt": _opt,
    "bloom": _bloom,
}
