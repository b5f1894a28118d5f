"""An encoder scores classes: one number a class, a head of its own, no text."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from datasets import Dataset
from pydantic import ValidationError

from jobs.spec import ModelSpec, Semantic
from tests.unit.worker.test_forms import INPUTS, PAD, TOKENIZER
from worker.collate import ClassEncoder
from worker.data import class_labels
from worker.evaluation_set import prepare
from worker.failures import Misconfigured
from worker.forms import ENCODER
from worker.models import load_model
from worker.scoring import score
from worker.tasks import Task

CLASSES = ["no", "perhaps", "yes"]
SEMANTIC: dict[str, Any] = {
    "model": {"family": "encoder", "config": {}},
    "method": {"name": "full"},
    "task": {"name": "tsv", "path": "here"},
    "train": {"steps": 3},
    "seed": 1,
}


def encoder(length: int = 64) -> ClassEncoder:
    """Return what turns texts and labels into samples."""
    numbers = {label: number for number, label in enumerate(CLASSES)}
    return ClassEncoder(tokenizer=TOKENIZER, prompt="{input}", max_length=length, classes=numbers)


def test_scores_are_those_of_the_head() -> None:
    """Cross entropy and argmax, whatever shares the batch."""
    spec = ModelSpec.model_validate(SEMANTIC["model"])
    model = load_model(spec, source=None, tokenizer=TOKENIZER, max_length=64, classes=3).eval()
    data = prepare(
        encoder().encode,
        INPUTS,
        ["yes", "no"],
        train_outputs=[],
        known_labels=CLASSES,
        form=ENCODER,
    )
    cpu = torch.device("cpu")
    with torch.no_grad():
        found = score(model, data, range(2), pad_id=PAD, device=cpu)
        (alone,) = score(model, data, range(1), pad_id=PAD, device=cpu)
        ids = torch.tensor([encoder().encode(INPUTS[0], "yes").prompt])
        output = model(input_ids=ids, labels=torch.tensor([2]))

    assert found[0].nll == pytest.approx(float(output.loss), rel=1e-5)
    assert alone.nll == pytest.approx(found[0].nll, rel=1e-5)
    assert found[0].prediction == CLASSES[int(output.logits.argmax())]
    assert found[0].correct == (found[0].prediction == "yes")
    assert [f.tokens for f in found] == [1, 1]
    assert [data.gold, list(data.texts[0])] == [[2, 0], CLASSES]


def test_a_long_text_loses_its_end_and_keeps_its_frame() -> None:
    """As BERT is trained: what opens a text stays, and what closes it."""
    whole, cut = encoder().encode(INPUTS[1], "no"), encoder(6).encode(INPUTS[1], "no")

    assert len(cut.prompt) == 6
    assert cut.prompt[:5] == whole.prompt[:5]
    assert cut.prompt[-1] == whole.prompt[-1] == TOKENIZER.eos_token_id
    assert cut.answer == (0,)


def task(outputs: dict[str, list[str]]) -> Task:
    """Return a task with these answers."""
    splits = {
        split: Dataset.from_dict({"input": ["x"] * len(rows), "output": rows})
        for split, rows in outputs.items()
    }
    return Task(splits=splits, digest="")


def test_classes_are_the_answers_of_the_training_data() -> None:
    """Sorted; another one in a split is named with its place, for an encoder cannot say it."""
    semantic = Semantic.model_validate(SEMANTIC)
    rows = {"train": ["b", "a", "b"], "dev": ["a"], "test": ["b", "c"]}
    with pytest.raises(Misconfigured, match="test example 2: the answer 'c'"):
        class_labels(semantic, task(rows))
    assert class_labels(semantic, task(rows | {"test": ["a"]})) == ["a", "b"]
    with pytest.raises(Misconfigured, match=r"2 to 1000 answers apart; the training data have 1"):
        class_labels(semantic, task({"train": ["a"], "dev": ["a"], "test": ["a"]}))


def test_labels_have_the_numbers_of_the_task() -> None:
    """In the order that the matrix says them, so that a head means the same in each job."""
    labelled = SEMANTIC | {"task": {"name": "sst2", "path": "here"}}
    semantic = Semantic.model_validate(labelled)
    rows = {"train": ["positive"], "dev": ["negative"], "test": ["positive"]}
    assert class_labels(semantic, task(rows)) == ["negative", "positive"]


def test_an_encoder_is_asked_for_no_text() -> None:
    """Refused with the metric's name, before anything is submitted."""
    wrong = SEMANTIC | {"task": {"name": "tsv", "path": "here", "metrics": ("rougeL",)}}
    with pytest.raises(ValidationError, match="metric rougeL needs decoder or seq2seq"):
        Semantic.model_validate(wrong)
