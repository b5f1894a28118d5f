"""What can be trained and how, as data: no torch here, so a login node can check a matrix.

A test of the worker proves that its registries have the same names. Defaults are written into each
spec at submission. A key added later has the default None (the architecture derives it): another
one would change the ids of matrices that are being worked on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from jobs.known_tasks import KNOWN_TASKS

ConfigValue = int | float | str | bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigKey:
    """One key of `model.config`. `default` None: the architecture derives it."""

    kind: Literal["integer", "number", "text", "flag"]
    default: ConfigValue | None
    least: float | None = None  # inclusive
    below: float | None = None  # exclusive
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """A model class that can be built from a configuration with random weights.

    Keys and names of modules are those of transformers; `#` stands for a layer's number.
    """

    name: str
    family: str
    keys: Mapping[str, ConfigKey]
    multiples: tuple[tuple[str, str], ...]  # the first is a multiple of the second
    positions: str | None  # the key that bounds task.max_length; None: unbounded
    linear_modules: tuple[str, ...]  # what LoRA can adapt
    lora_targets: tuple[str, ...]  # what LoRA adapts by default
    ia3_targets: tuple[str, ...]  # whose outputs (IA)3 scales: keys and values …
    ia3_inner: tuple[str, ...]  # … but of these, the ends of feed-forwards, the inputs
    attention_ends: tuple[str, ...]  # the last linear layer of each attention
    inner_firsts: tuple[str, ...]  # a first one of each feed-forward network, whichever it has
    inner_last: str  # and its last one
    reserved: Mapping[str, str] = field(default_factory=lambda: _RESERVED)  # key -> who sets it


_FROM_TOKENIZER = "it is taken from the tokenizer"
_RESERVED: Mapping[str, str] = {
    "vocab_size": f"{_FROM_TOKENIZER}; set model.tokenizer.vocab_size",
    "pad_token_id": _FROM_TOKENIZER,
    "bos_token_id": _FROM_TOKENIZER,
    "eos_token_id": _FROM_TOKENIZER,
    "use_cache": "training does not use a cache",
    "torch_dtype": "set engine.precision",
    "dtype": "set engine.precision",
}


def _size(default: int | None) -> ConfigKey:
    return ConfigKey(kind="integer", default=default, least=1)


def _share(default: float) -> ConfigKey:
    return ConfigKey(kind="number", default=default, least=0, below=1)


def _small(default: float) -> ConfigKey:
    return ConfigKey(kind="number", default=default, least=1e-12, below=10)


def _activation(default: str) -> ConfigKey:
    return ConfigKey(
        kind="text", default=default, choices=("gelu", "gelu_new", "relu", "silu", "tanh")
    )


GPT2 = Architecture(
    name="gpt2",
    family="decoder",
    keys={
        "n_layer": _size(2),
        "n_embd": _size(64),
        "n_head": _size(4),
        "n_positions": _size(128),
        "n_inner": _size(None),
        "activation_function": _activation("gelu_new"),
        "resid_pdrop": _share(0.1),
        "embd_pdrop": _share(0.1),
        "attn_pdrop": _share(0.1),
        "layer_norm_epsilon": _small(1e-5),
        "initializer_range": _small(0.02),
    },
    multiples=(("n_embd", "n_head"),),
    positions="n_positions",
    linear_modules=("c_attn", "c_proj", "c_fc"),
    lora_targets=("c_attn",),
    ia3_targets=("c_attn", "mlp.c_proj"),
    ia3_inner=("mlp.c_proj",),
    attention_ends=("attn.c_proj",),
    inner_firsts=("c_fc",),
    inner_last="mlp.c_proj",
)

LLAMA = Architecture(
    name="llama",
    family="decoder",
    keys={
        "num_hidden_layers": _size(2),
        "hidden_size": _size(64),
        "num_attention_heads": _size(4),
        "num_key_value_heads": _size(None),  # as many as attention heads
        "intermediate_size": _size(128),
        "max_position_embeddings": _size(128),
        "hidden_act": _activation("silu"),
        "attention_dropout": _share(0.0),
        "rms_norm_eps": _small(1e-6),
        "initializer_range": _small(0.02),
        "tie_word_embeddings": ConfigKey(kind="flag", default=False),
    },
    multiples=(
        ("hidden_size", "num_attention_heads"),
        ("num_attention_heads", "num_key_value_heads"),
    ),
    positions="max_position_embeddings",
    linear_modules=(
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj",
    ),
    lora_targets=("q_proj", "v_proj"),
    ia3_targets=("k_proj", "v_proj", "down_proj"),
    ia3_inner=("down_proj",),
    attention_ends=("o_proj",),
    inner_firsts=("gate_proj",),
    inner_last="down_proj",
)  # fmt: skip

OPT = Architecture(
    name="opt",
    family="decoder",
    keys={
        "num_hidden_layers": _size(2),
        "hidden_size": _size(64),
        "num_attention_heads": _size(4),
        "ffn_dim": _size(256),
        "max_position_embeddings": _size(128),
        "activation_function": _activation("relu"),
        "dropout": _share(0.1),
        "attention_dropout": _share(0.0),
        "init_std": _small(0.02),
    },
    multiples=(("hidden_size", "num_attention_heads"),),
    positions="max_position_embeddings",
    linear_modules=("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"),
    lora_targets=("q_proj", "v_proj"),
    ia3_targets=("k_proj", "v_proj", "fc2"),
    ia3_inner=("fc2",),
    attention_ends=("out_proj",),
    inner_firsts=("fc1",),
    inner_last="fc2",
)

BLOOM = Architecture(
    name="bloom",
    family="decoder",
    keys={
        "n_layer": _size(2),
        "hidden_size": _size(64),
        "n_head": _size(4),
        "hidden_dropout": _share(0.0),
        "attention_dropout": _share(0.0),
        "layer_norm_epsilon": _small(1e-5),
        "initializer_range": _small(0.02),
    },
    multiples=(("hidden_size", "n_head"),),
    positions=None,  # ALiBi
    linear_modules=("query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"),
    lora_targets=("query_key_value",),
    ia3_targets=("query_key_value", "dense_4h_to_h"),
    ia3_inner=("dense_4h_to_h",),
    attention_ends=("self_attention.dense",),
    inner_firsts=("dense_h_to_4h",),
    inner_last="dense_4h_to_h",
)

T5 = Architecture(
    name="t5",
    family="seq2seq",
    keys={
        "num_layers": _size(2),
        "num_decoder_layers": _size(None),  # as many as num_layers
        "d_model": _size(64),
        "num_heads": _size(4),
        "d_kv": _size(16),
        "d_ff": _size(128),
        "feed_forward_proj": ConfigKey(kind="text", default="relu", choices=("relu", "gated-gelu")),
        "dropout_rate": _share(0.1),
        "layer_norm_epsilon": _small(1e-6),
        "initializer_factor": ConfigKey(kind="number", default=1.0, least=1e-6, below=1e6),
        "relative_attention_num_buckets": _size(32),
        "relative_attention_max_distance": _size(128),
        "tie_word_embeddings": ConfigKey(kind="flag", default=True),
    },
    multiples=(),
    positions=None,  # relative
    linear_modules=("q", "k", "v", "o", "wi", "wi_0", "wi_1", "wo"),
    lora_targets=("q", "v"),
    ia3_targets=("k", "v", "wo"),
    ia3_inner=("wo",),
    attention_ends=("SelfAttention.o", "EncDecAttention.o"),
    inner_firsts=("wi", "wi_0"),
    inner_last="wo",
    reserved={**_RESERVED, "decoder_start_token_id": _FROM_TOKENIZER},
)

BERT = Architecture(
    name="bert",
    family="encoder",
    keys={
        "num_hidden_layers": _size(2),
        "hidden_size": _size(64),
        "num_attention_heads": _size(4),
        "intermediate_size": _size(128),
        "max_position_embeddings": _size(128),
        "hidden_act": _activation("gelu"),
        "hidden_dropout_prob": _share(0.1),
        "attention_probs_dropout_prob": _share(0.1),
        "layer_norm_eps": _small(1e-12),
        "initializer_range": _small(0.02),
    },
    multiples=(("hidden_size", "num_attention_heads"),),
    positions="max_position_embeddings",
    linear_modules=("query", "key", "value", "dense"),
    lora_targets=("query", "value"),
    ia3_targets=("key", "value", "#.output.dense"),
    ia3_inner=("#.output.dense",),
    attention_ends=("attention.output.dense",),
    inner_firsts=("intermediate.dense",),
    inner_last="#.output.dense",
)

ARCHITECTURES: Mapping[str, Architecture] = {a.name: a for a in (GPT2, LLAMA, OPT, BLOOM, T5, BERT)}
# family -> of a bare `config`
DEFAULT_ARCHITECTURE: Mapping[str, str] = {
    "decoder": "gpt2",
    "seq2seq": "t5",
    "encoder": "bert",
}

FAMILIES = ("decoder", "seq2seq", "encoder")
SCHEDULES = ("linear", "cosine", "constant")
TASKS = ("tsv", "jsonl", "instruct", "superni", "plugin", *KNOWN_TASKS)
SPLITS = ("train", "dev", "test")

# method -> families that the worker can train with it. An absent pair is refused at submission.
_ALL = frozenset(FAMILIES)
METHOD_FAMILIES: Mapping[str, frozenset[str]] = {
    "lora": _ALL,
    "full": _ALL,
    "subset": _ALL,
    "ia3": _ALL,
    "prompt": _ALL,
    "prefix": frozenset({"decoder", "seq2seq"}),  # an encoder keeps no keys and values
    "bitfit": _ALL,
    "adapter": _ALL,
    "parallel_adapter": _ALL,
    "compacter": _ALL,
    "apet": _ALL,
}


def supported_families(method: str) -> tuple[str, ...]:
    """Return the families that `method` can tune, sorted; empty for an unknown method."""
    return tuple(sorted(METHOD_FAMILIES.get(method, frozenset())))


def architecture_of(family: str, name: str | None) -> Architecture | None:
    """Return the architecture of a from-config model; `name` None: the family's default."""
    found = ARCHITECTURES.get(name or DEFAULT_ARCHITECTURE.get(family, ""))
    return found if found and found.family == family else None


def full_config(
    architecture: Architecture, config: Mapping[str, ConfigValue]
) -> dict[str, ConfigValue]:
    """Return `config` with the architecture's defaults where it says nothing."""
    defaults = {
        name: key.default for name, key in architecture.keys.items() if key.default is not None
    }
    return {**defaults, **config}
