"""What families differ in: batches, where a label's logits stand, how text goes on."""

from __future__ import annotations

import pytest
import torch

from jobs.spec import ModelSpec, TokenizerSpec
from worker.collate import IGNORED, Encoder, Sample
from worker.evaluation_set import prepare
from worker.forms import DECODER, SEQ2SEQ, Form, collate_pairs
from worker.models import load_model
from worker.scoring import score
from worker.vocabulary import train_tokenizer
from worker.writer import Writer

WORDS = "to be or not to be that is the question whether it is nobler in the mind to suffer"
TOKENIZER = train_tokenizer(TokenizerSpec(vocab_size=300), [WORDS])
FORMS = {"decoder": DECODER, "seq2seq": SEQ2SEQ}
PAD = TOKENIZER.pad_token_id
INPUTS, OUTPUTS = (
    ["to be or not", "whether it is nobler in the mind"],
    ["that is", "to suffer it is"],
)


def model_of(family: str) -> torch.nn.Module:
    """Return a tiny model of a family."""
    spec = ModelSpec.model_validate({"family": family, "config": {}})
    return load_model(spec, source=None, tokenizer=TOKENIZER, max_length=64).eval()


def encoder_of(form: Form, max_length: int = 64) -> Encoder:
    """Return what turns texts into samples for a form."""
    return Encoder(
        tokenizer=TOKENIZER,
        prompt="{input}",
        max_length=max_length,
        closes_prompt=form.closes_prompt,
    )


def test_pairs_keep_prompt_and_answer_apart() -> None:
    """Only the answer has labels; each is padded to its own longest."""
    batch = collate_pairs([Sample((5, 6, 7), (8, 2)), Sample((5,), (9, 8, 2))], 0)

    assert batch["input_ids"].tolist() == [[5, 6, 7], [5, 0, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["labels"].tolist() == [[8, 2, IGNORED], [9, 8, 2]]


@pytest.mark.parametrize("length", [4, 8, 64])
def test_a_closed_prompt_ends_with_the_end_token_and_fits(length: int) -> None:
    """A prompt that is too long loses its beginning, never its end."""
    sample = encoder_of(SEQ2SEQ, length).encode(INPUTS[1], OUTPUTS[0])

    assert sample.length <= length
    assert sample.prompt[-1] == TOKENIZER.eos_token_id
    whole = encoder_of(SEQ2SEQ).encode(INPUTS[1], OUTPUTS[0]).prompt
    assert whole[-len(sample.prompt) :] == sample.prompt


@pytest.mark.parametrize("family", sorted(FORMS))
def test_a_score_does_not_depend_on_what_shares_its_batch(family: str) -> None:
    """Padding of prompts and answers is not seen; the scores are the model's own loss."""
    form, model = FORMS[family], model_of(family)
    data = prepare(
        encoder_of(form).encode, INPUTS, OUTPUTS, train_outputs=[], known_labels=[], form=form
    )
    cpu = torch.device("cpu")
    with torch.no_grad():
        together = score(model, data, range(2), pad_id=PAD, device=cpu)
        for one in together:
            (alone,) = score(model, data, range(one.index, one.index + 1), pad_id=PAD, device=cpu)
            sample = data.candidates[one.index][0]
            loss = model(**form.collate([sample], PAD)).loss.item()
            assert alone.tokens == len(sample.answer)
            assert one.nll == pytest.approx(alone.nll, rel=1e-5)
            assert alone.nll / alone.tokens == pytest.approx(loss, rel=1e-5)


@pytest.mark.parametrize("family", sorted(FORMS))
def test_what_is_written_is_what_the_labels_logits_say(family: str) -> None:
    """Each token is the likeliest one after those before it, as scoring sees the very text."""
    form, model = FORMS[family], model_of(family)
    writer = Writer(encoder=encoder_of(form), limit=5, form=form)
    prompt = writer.prompt(INPUTS[0])
    ids = torch.tensor(prompt)
    made: list[int] = []
    with torch.no_grad():
        (text,) = writer.write(model, [prompt], device=torch.device("cpu"))
        for _ in range(5):
            made.append(
                int(form.next_logits(model, ids, torch.tensor(made, dtype=torch.int64)).argmax())
            )
        batch = form.collate([Sample(tuple(prompt), tuple(made))], PAD)
        logits, labels = form.aligned(model(**batch).logits, batch["labels"])

    best = logits.argmax(-1)[labels != IGNORED].tolist()
    assert best == made == labels[labels != IGNORED].tolist()
    end = made.index(TOKENIZER.eos_token_id) if TOKENIZER.eos_token_id in made else len(made)
    assert text == TOKENIZER.decode(made[:end], skip_special_tokens=True).strip()
