"""What each method trains, counted by hand, and that it is seen by scores and texts alike."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import TypeAdapter

from jobs.catalog import ARCHITECTURES
from jobs.matrix.checks_run import check_length
from jobs.spec import MethodSpec, ModelSpec, TaskSpec
from tests.unit.worker.test_forms import FORMS, INPUTS, OUTPUTS, PAD, TOKENIZER, encoder_of
from worker.evaluation_set import prepare
from worker.failures import Misconfigured
from worker.methods import apply_method
from worker.models import load_model
from worker.scoring import score

LAYERS, WIDTH, INNER = 2, 64, 256  # of both tiny models, but for T5's inner width
BOTTLENECK = 2 * 8 * WIDTH + 8 + WIDTH
DECODER = {"family": "decoder", "config": {}}
SEQ2SEQ = {"family": "seq2seq", "config": {"d_ff": INNER}}
ENCODER = {"family": "encoder", "config": {"intermediate_size": INNER}}
HEAD = 3 * WIDTH + 3  # of an encoder that tells three classes apart: always trained
# down 64 -> 8 and up again: rows and columns of four blocks, and biases; one rule for all
KRONECKER = (WIDTH + 8 + 8) + (8 + WIDTH + WIDTH)
RULE = 4 * 4 * 4
SPEC = TypeAdapter[Any](MethodSpec)


def tuned(model: dict[str, Any], method: dict[str, Any], *, seed: int = 1) -> Any:
    """Return a tiny model under a method."""
    spec = ModelSpec.model_validate(model)
    classes = 3 if spec.family == "encoder" else 0
    plain = load_model(spec, source=None, tokenizer=TOKENIZER, max_length=64, classes=classes)
    return apply_method(plain, SPEC.validate_python(method), seed=seed).eval()


def trained(model: Any) -> int:
    """Return how many parameters are trained."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize(
    ("model", "method", "count"),
    [
        # c_attn 64 -> 192: 8 * (64 + 192) a layer
        (DECODER, {"name": "lora", "rank": 8}, LAYERS * 8 * (WIDTH + 3 * WIDTH)),
        # q and v, 64 -> 64, of the encoder's, the decoder's and the cross attention
        (SEQ2SEQ, {"name": "lora", "rank": 8}, 3 * LAYERS * 2 * 8 * (WIDTH + WIDTH)),
        # outputs of c_attn (with the queries, which GPT-2 does not keep apart), inputs of c_proj
        (DECODER, {"name": "ia3"}, LAYERS * (3 * WIDTH + INNER)),
        (SEQ2SEQ, {"name": "ia3"}, 3 * LAYERS * 2 * WIDTH + 2 * LAYERS * INNER),
        (DECODER, {"name": "prompt", "tokens": 5}, 5 * WIDTH),
        (SEQ2SEQ, {"name": "prompt", "tokens": 5}, 5 * WIDTH),
        (DECODER, {"name": "prefix", "tokens": 5}, 5 * LAYERS * 2 * WIDTH),
        (
            DECODER,
            {"name": "prefix", "tokens": 5, "projection": True, "projection_size": 16},
            5 * WIDTH + (WIDTH * 16 + 16) + (16 * LAYERS * 2 * WIDTH + LAYERS * 2 * WIDTH),
        ),
        # a layer: attention's 192 and 64, the feed-forward's 256 and 64, two norms; a last norm
        (DECODER, {"name": "bitfit"}, LAYERS * (4 * WIDTH + INNER + WIDTH + 2 * WIDTH) + WIDTH),
        # q, k, v, o of three attentions, wi and wo of two feed-forwards; T5's norms have no bias
        (
            SEQ2SEQ,
            {"name": "bitfit", "create": True},
            LAYERS * (3 * 4 * WIDTH + 2 * (INNER + WIDTH)),
        ),
        (DECODER, {"name": "adapter", "rank": 8}, LAYERS * 2 * BOTTLENECK),
        (SEQ2SEQ, {"name": "adapter", "rank": 8}, LAYERS * 5 * BOTTLENECK),
        (DECODER, {"name": "parallel_adapter", "rank": 8}, LAYERS * BOTTLENECK),
        (SEQ2SEQ, {"name": "parallel_adapter", "rank": 8}, LAYERS * 2 * BOTTLENECK),
        (DECODER, {"name": "compacter", "rank": 8}, LAYERS * 2 * KRONECKER + RULE),
        (SEQ2SEQ, {"name": "compacter", "rank": 8}, LAYERS * 5 * KRONECKER + RULE),
        # query and value; the head besides, as for all methods of an encoder
        (ENCODER, {"name": "lora", "rank": 8}, LAYERS * 2 * 8 * (WIDTH + WIDTH) + HEAD),
        (ENCODER, {"name": "ia3"}, LAYERS * (2 * WIDTH + INNER) + HEAD),
        (ENCODER, {"name": "prompt", "tokens": 5}, 5 * WIDTH + HEAD),
        # four of attention, two of the feed-forward, two norms; the embeddings' norm, the pooler
        (
            ENCODER,
            {"name": "bitfit"},
            LAYERS * (4 * WIDTH + INNER + WIDTH + 2 * WIDTH) + WIDTH + WIDTH + HEAD,
        ),
        (ENCODER, {"name": "adapter", "rank": 8}, LAYERS * 2 * BOTTLENECK + HEAD),
        (ENCODER, {"name": "parallel_adapter", "rank": 8}, LAYERS * BOTTLENECK + HEAD),
        (ENCODER, {"name": "compacter", "rank": 8}, LAYERS * 2 * KRONECKER + RULE + HEAD),
    ],
)
def test_what_is_trained_is_counted(
    model: dict[str, Any], method: dict[str, Any], count: int
) -> None:
    """Nothing of the model itself, and new weights are drawn by the job's seed alone."""
    one, same, other = (tuned(model, method, seed=seed) for seed in (1, 1, 2))

    assert trained(one) == count
    pairs = zip(one.named_parameters(), same.parameters(), strict=True)
    assert all(torch.equal(p, q) for (_, p), q in pairs)
    if method["name"] not in ("ia3", "bitfit"):  # these begin with ones, respectively zeros
        drawn = zip(one.parameters(), other.parameters(), strict=True)
        assert not all(torch.equal(p, q) for p, q in drawn)


@pytest.mark.parametrize("model", [DECODER, SEQ2SEQ], ids=["decoder", "seq2seq"])
@pytest.mark.parametrize(
    "name", ["ia3", "prompt", "prefix", "adapter", "parallel_adapter", "compacter", "bitfit"]
)
def test_scores_see_the_method_and_nothing_else(model: dict[str, Any], name: str) -> None:
    """Not what shares a batch; moving what is trained moves the scores."""
    form = FORMS[model["family"]]
    data = prepare(
        encoder_of(form).encode, INPUTS, OUTPUTS, train_outputs=[], known_labels=[], form=form
    )
    module = tuned(model, {"name": name} | ({"create": True} if name == "bitfit" else {}))
    cpu = torch.device("cpu")
    with torch.no_grad():
        together = score(module, data, range(2), pad_id=PAD, device=cpu)
        (alone,) = score(module, data, range(1), pad_id=PAD, device=cpu)
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.linspace(-1, 1, parameter.numel()).reshape(parameter.shape))
        (moved,) = score(module, data, range(1), pad_id=PAD, device=cpu)

    assert alone.nll == pytest.approx(together[0].nll, rel=1e-5)
    assert abs(moved.nll - alone.nll) > 1e-3


def test_biases_that_are_not_there_are_made_on_demand_only() -> None:
    """T5 has none: that is said, and nothing is trained by accident."""
    with pytest.raises(Misconfigured, match=r"method\.create: true"):
        tuned(SEQ2SEQ, {"name": "bitfit"})


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
@pytest.mark.parametrize("name", ["ia3", "adapter", "parallel_adapter"])
def test_every_architecture_has_the_places(architecture: str, name: str) -> None:
    """Each layer gets its adapters: one beside, two after (T5's decoder three)."""
    known = ARCHITECTURES[architecture]
    model = {"family": known.family, "architecture": architecture, "config": {}}
    module = tuned(model, {"name": name})

    places = sum(
        part.endswith(("down.weight", "ia3_l.default")) for part, _ in module.named_parameters()
    )
    each = {"ia3": len(known.ia3_targets), "adapter": 2, "parallel_adapter": 1}[name]
    t5 = {"ia3": LAYERS * 3 * 2 + 2 * LAYERS, "adapter": LAYERS * 5, "parallel_adapter": 2 * LAYERS}
    assert places == (t5[name] if architecture == "t5" else LAYERS * each)


def test_own_tokens_need_positions() -> None:
    """They are refused at submission with what is left, and by the worker."""
    task = TaskSpec.model_validate({"name": "tsv", "path": "x", "max_length": 120})
    model = ModelSpec.model_validate(DECODER)

    def found(method: dict[str, Any]) -> list[str]:
        return [f.fix for f in check_length(task, model, SPEC.validate_python(method))]

    assert found({"name": "prompt", "tokens": 8}) == []
    (fix,) = found({"name": "prefix", "tokens": 20})
    assert fix.startswith("write at most 108,")
    with pytest.raises(Misconfigured, match="positions"):
        load_model(model, source=None, tokenizer=TOKENIZER, max_length=140)
