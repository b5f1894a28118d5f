"""Scores of examples: how likely each tried answer is, and which one is the prediction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from worker.collate import IGNORED
from worker.evaluation_set import EvaluationSet


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """One example's values."""

    index: int
    nll: float  # of the gold answer, summed over its tokens
    tokens: int
    correct: bool
    prediction: str | None  # None: a wrong free-form answer is not generated


def score(
    module: Any, examples: EvaluationSet, indices: range, *, pad_id: int, device: torch.device
) -> list[Scored]:
    """Return the values of a batch of examples."""
    if examples.form.classes:
        return _score_classes(module, examples, indices, pad_id=pad_id, device=device)
    flat = [sample for index in indices for sample in examples.candidates[index]]
    batch = {key: value.to(device) for key, value in examples.form.collate(flat, pad_id).items()}
    labels = batch["labels"]
    if examples.form.ahead:  # others need it to see what they have to predict after
        del batch["labels"]
    logits, labels = examples.form.aligned(module(**batch).logits, labels)
    nll, exact = token_scores(logits.float(), labels)
    scores, place = [], 0
    for index in indices:
        count, gold = len(examples.candidates[index]), examples.gold[index]
        tried = nll[place : place + count]
        if examples.num_labels:
            best = min(range(examples.num_labels), key=tried.__getitem__)
            correct = best == gold
            prediction: str | None = examples.texts[index][best]
        else:
            correct = exact[place + gold]
            prediction = examples.texts[index][gold] if correct else None
        scores.append(
            Scored(
                index=index,
                nll=tried[gold],
                tokens=len(examples.candidates[index][gold].answer),
                correct=correct,
                prediction=prediction,
            )
        )
        place += count
    return scores


def _score_classes(
    module: Any, examples: EvaluationSet, indices: range, *, pad_id: int, device: torch.device
) -> list[Scored]:
    samples = [examples.candidates[index][0] for index in indices]
    batch = {key: value.to(device) for key, value in examples.form.collate(samples, pad_id).items()}
    gold = batch.pop("labels")
    log_probabilities = torch.log_softmax(module(**batch).logits.float(), dim=-1)
    nll = -log_probabilities.gather(-1, gold.unsqueeze(-1)).squeeze(-1).double()
    best = log_probabilities.argmax(-1)
    found = zip(indices, nll.tolist(), best.tolist(), strict=True)
    return [
        Scored(
            index=index,
            nll=value,
            tokens=1,
            correct=place == examples.gold[index],
            prediction=examples.texts[index][place],
        )
        for index, value, place in found
    ]


def token_scores(logits: torch.Tensor, labels: torch.Tensor) -> tuple[list[float], list[bool]]:
    """Return each sequence's summed answer NLL (float64) and whether argmax hits every token.

    logits: (sequences, tokens, vocabulary); labels: (sequences, tokens), -100 where ignored.
    """
    answer = labels != IGNORED
    targets = labels.masked_fill(~answer, 0)
    log_probabilities = torch.log_softmax(logits, dim=-1)
    chosen = log_probabilities.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
    nll = -(chosen.double() * answer).sum(-1)
    hits = (logits.argmax(-1) == targets) | ~answer
    return nll.tolist(), hits.all(-1).tolist()
