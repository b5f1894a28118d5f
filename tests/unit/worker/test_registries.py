"""The catalog, which submission checks without torch, says what the worker really has."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from jobs import catalog
from jobs.spec import ModelSpec, TokenizerSpec
from worker.failures import Misconfigured
from worker.methods import METHODS, apply_method
from worker.models import AUTO_CLASSES, load_model
from worker.sources import model_source
from worker.vocabulary import train_tokenizer

TOKENIZER = train_tokenizer(TokenizerSpec(vocab_size=300), ["some text"])


def build(architecture: str, *, max_length: int = 32, **config: Any) -> torch.nn.Module:
    """Build a catalogued architecture with its defaults."""
    family = catalog.ARCHITECTURES[architecture].family
    spec = ModelSpec.model_validate(
        {"family": family, "architecture": architecture, "config": config}
    )
    return load_model(spec, source=None, tokenizer=TOKENIZER, max_length=max_length)


def test_names_agree() -> None:
    """What the catalog offers, the worker has; nothing else."""
    assert set(METHODS) == set(catalog.METHOD_FAMILIES)
    assert set(AUTO_CLASSES) == set().union(*catalog.METHOD_FAMILIES.values())


@pytest.mark.parametrize("architecture", sorted(catalog.ARCHITECTURES))
def test_every_architecture_builds_and_has_its_lora_targets(architecture: str) -> None:
    """Defaults are whole, module names exist, and random weights depend on the seed only."""
    from jobs.spec import LoraSpec

    known = catalog.ARCHITECTURES[architecture]
    model, again = build(architecture), build(architecture)
    for (name, tensor), (_, other) in zip(
        model.state_dict().items(), again.state_dict().items(), strict=True
    ):
        assert torch.equal(tensor, other), name
    kinds: list[dict[str, Any]] = [{}]
    if (gate := known.keys.get("feed_forward_proj")) is not None:
        kinds = [{"feed_forward_proj": kind} for kind in gate.choices]
    built = [build(architecture, **kind) for kind in kinds]
    modules = {name.rsplit(".", 1)[-1] for one in built for name, _ in one.named_modules()}
    assert set(known.linear_modules) <= modules
    torch.manual_seed(99)  # the caller's generator must not matter
    tuned = apply_method(model, LoraSpec(name="lora"), seed=3)
    trained = [name for name, p in tuned.named_parameters() if p.requires_grad]
    trained = [name for name in trained if "modules_to_save" not in name]  # an encoder's head
    assert trained
    assert all("lora_" in name for name in trained)
    assert {part for name in trained for part in known.lora_targets if part in name} == set(
        known.lora_targets
    )


def test_what_cannot_be_built_is_refused_with_the_field() -> None:
    """Configuration errors end with 78 and say what to change."""
    with pytest.raises(Misconfigured, match=r"task\.max_length 4096 exceeds"):
        build("gpt2", max_length=4096)
    odd = {"family": "decoder", "config": {"n_embd": 30, "n_head": 4}}
    with pytest.raises(Misconfigured, match=r"model\.config of gpt2"):
        load_model(ModelSpec.model_validate(odd), source=None, tokenizer=TOKENIZER, max_length=8)
    nowhere = ModelSpec.model_validate({"family": "decoder", "path": "/nowhere"})
    with pytest.raises(Misconfigured, match=r"model\.path '/nowhere'"):
        model_source(nowhere, base_dir=None, models_root=None)
    missing = ModelSpec.model_validate({"family": "decoder", "path": "nobody/nothing"})
    with pytest.raises(Misconfigured, match="present locally"):
        load_model(missing, source="nobody/nothing", tokenizer=TOKENIZER, max_length=8)


def test_unknown_lora_targets_are_refused_with_the_field() -> None:
    """peft's own message is wrapped once."""
    from jobs.spec import LoraSpec

    with pytest.raises(Misconfigured, match=r"method\.targets \['nothing'\]"):
        apply_method(build("gpt2"), LoraSpec(name="lora", targets=("nothing",)), seed=1)
