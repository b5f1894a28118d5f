"""Arbitrary parameters: the budget is the live model's, kept, and met exactly where asked."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from jobs.catalog import ARCHITECTURES
from jobs.spec import ApetSpec
from tests.unit.worker.test_methods import (
    BOTTLENECK,
    DECODER,
    ENCODER,
    HEAD,
    LAYERS,
    SEQ2SEQ,
    WIDTH,
    trained,
    tuned,
)
from worker.adapters import places
from worker.apet import Group, budget_of, draw
from worker.failures import Misconfigured

MODELS = {"decoder": DECODER, "seq2seq": SEQ2SEQ, "encoder": ENCODER}


def apet(**changes: Any) -> dict[str, Any]:
    """Return a method."""
    return {"name": "apet", "lora_rank": 2, "adapter_rank": 4, "soft_prompt_tokens": 7, **changes}


def names(model: Any) -> set[str]:
    """Return what is trained."""
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize("family", MODELS)
@pytest.mark.parametrize("budget", ["lora", "adapter", "soft_prompt", "bitfit"])
def test_the_budget_is_what_the_method_would_train(family: str, budget: str) -> None:
    """Counted on the model that is trained, not looked up."""
    method = {
        "lora": {"name": "lora", "rank": 2},
        "adapter": {"name": "adapter", "rank": 4},
        "soft_prompt": {"name": "prompt", "tokens": 7},
        "bitfit": {"name": "bitfit", "create": True},
    }[budget]
    if family == "decoder" and budget == "bitfit":
        method = {"name": "bitfit"}
    model = tuned(MODELS[family], {"name": "full"})
    known = ARCHITECTURES[model.config.model_type]
    spec = ApetSpec.model_validate(apet(budget=budget))

    wanted = trained(tuned(MODELS[family], method))
    head = HEAD if family == "encoder" else 0
    own = 3 if (family, budget) == ("encoder", "bitfit") else 0  # the head's bias is a bias too
    created = 0
    if (family, budget) == ("seq2seq", "bitfit"):
        created = model.lm_head.out_features  # as the study counted it
    assert budget_of(model, spec, known) == wanted - head + own + created


@pytest.mark.parametrize("family", MODELS)
def test_half_is_inserted_and_half_is_the_model_s(family: str) -> None:
    """Never more than the budget; the same draw for the same seed, another for another."""
    head = HEAD if family == "encoder" else 0
    method = apet(budget=3000, pick_seed=5)
    model = tuned(MODELS[family], method)
    added = {n for n in names(model) if "lora_" in n or ".adapter." in n}
    counts = {n: p.numel() for n, p in model.named_parameters() if p.requires_grad}

    assert 0 < sum(counts[n] for n in added) <= 1500
    assert 0 < sum(counts[n] for n in counts if n not in added) - head <= 1500
    assert names(tuned(MODELS[family], method, seed=9)) == names(model)
    assert names(tuned(MODELS[family], apet(budget=3000, pick_seed=6))) != names(model)
    without = apet(budget=3000)
    assert names(tuned(MODELS[family], without, seed=1)) != names(
        tuned(MODELS[family], without, seed=2)
    )


@pytest.mark.parametrize("family", MODELS)
@pytest.mark.parametrize("budget", [1, 37, 3001, 20_011])
def test_masks_meet_the_budget_exactly(family: str, budget: int) -> None:
    """Also one that no tensor fits into; gradients reach the chosen elements."""
    model = tuned(MODELS[family], apet(budget=budget, masks=True))
    assert trained(model) == budget + (HEAD if family == "encoder" else 0)

    batch = torch.arange(8).reshape(2, 4)
    more = {"decoder_input_ids": batch} if family == "seq2seq" else {}
    deltas = [p for n, p in model.named_parameters() if "delta_" in n]
    assert len(deltas) == 1
    before = model(input_ids=batch, **more).logits
    before.square().sum().backward()
    assert deltas[0].grad.abs().sum() > 0
    with torch.no_grad():
        deltas[0].add_(1.0)
        assert not torch.equal(model(input_ids=batch, **more).logits, before)


def test_the_choice_of_elements_is_in_the_name() -> None:
    """A checkpoint of another choice would have other tensors."""
    one, same, other = (
        names(tuned(DECODER, apet(budget=50, masks=True, pick_seed=s))) for s in (1, 1, 2)
    )
    assert one == same
    assert one != other


@pytest.mark.parametrize(("budget", "words"), [(60, "inserted module"), (400, "of the model")])
def test_a_budget_that_nothing_fits_into_is_an_error(budget: int, words: str) -> None:
    """Not a model of which nothing is trained; the least budget is named."""
    groups = [Group(kind="lora", place="a", size=100)]
    with pytest.raises(Misconfigured, match=words) as raised:
        draw(
            groups,
            [("w", 300)],
            budget=budget,
            masks=None,
            generator=torch.Generator().manual_seed(1),
        )
    assert f"at least {200 if budget == 60 else 600}," in str(raised.value)


def test_more_than_the_model_has_is_an_error() -> None:
    """With masks; without, all that there is may be too little, and the result says the number."""
    with pytest.raises(Misconfigured, match="not so many"):
        tuned(DECODER, apet(budget=10**9, masks=True))


def test_an_unpicked_module_is_not_there() -> None:
    """It could only cost time."""
    model = tuned(DECODER, apet(budget=3000))
    there = sum(1 for name, _ in model.named_parameters() if name.endswith("adapter.down.weight"))
    known = ARCHITECTURES["gpt2"]
    assert there < len(places(model, (*known.attention_ends, known.inner_last)))
    assert BOTTLENECK > WIDTH * LAYERS
