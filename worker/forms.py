"""How a family of models takes examples and gives scores: all that differs between families.

A decoder reads prompt and answer as one text and predicts each token from those before it. An
encoder-decoder (Raffel et al. 2020, T5) reads the prompt with its encoder; its decoder gets the
answer moved by one, after a start token, and predicts it in place. An encoder with a
classification head (Devlin et al. 2019, BERT) reads the prompt and scores classes; it writes
nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from worker.collate import IGNORED, Sample, collate


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """What batches look like, where a label's logits stand, and how text goes on.

    `closes_prompt`: a prompt ends with the end token. `ahead`: the logits of a label stand so many
    places before it. `next_logits(module, prompt, new)`: float32 (vocabulary,) after both.
    `mean_loss`: the model's loss is the mean over a micro-batch, whatever it is told. `classes`: an
    answer is the number of a class.
    """

    collate: Callable[[Sequence[Sample], int], dict[str, torch.Tensor]]
    closes_prompt: bool
    ahead: int
    next_logits: Callable[[Any, torch.Tensor, torch.Tensor], torch.Tensor]
    mean_loss: bool = False
    classes: bool = False

    def aligned(
        self, logits: torch.Tensor, labels: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return logits (samples, tokens, vocabulary) and labels (samples, tokens) by place."""
        logits = logits[:, -labels.shape[1] :]  # without a method's own tokens before the input
        end = logits.shape[1] - self.ahead
        return logits[:, :end], labels[:, self.ahead :]


def smoothed(form: Form, smoothing: float) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """Return the summed cross entropy with label smoothing (Szegedy et al. 2016, 1512.00567)."""

    def criterion(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        if not form.classes:
            logits, labels = form.aligned(logits, labels)
        return torch.nn.functional.cross_entropy(
            logits.float().reshape(-1, logits.shape[-1]),
            labels.reshape(-1),
            ignore_index=IGNORED,
            label_smoothing=smoothing,
            reduction="sum",
        )

    return criterion


def collate_pairs(samples: Sequence[Sample], pad_id: int) -> dict[str, torch.Tensor]:
    """Return `input_ids` and `attention_mask` of prompts and `labels` of answers, right-padded.

    int64 of shape (samples, longest prompt), the labels (samples, longest answer).
    """
    labels = torch.full((len(samples), max(len(s.answer) for s in samples)), IGNORED)
    for row, sample in enumerate(samples):
        labels[row, : len(sample.answer)] = torch.tensor(sample.answer)
    return {**_prompts(samples, pad_id), "labels": labels}


def collate_classes(samples: Sequence[Sample], pad_id: int) -> dict[str, torch.Tensor]:
    """Return `input_ids` and `attention_mask` of prompts, right-padded, and `labels`.

    int64 of shape (samples, longest prompt), the labels (samples,).
    """
    labels = torch.tensor([sample.answer[0] for sample in samples])
    return {**_prompts(samples, pad_id), "labels": labels}


def _prompts(samples: Sequence[Sample], pad_id: int) -> dict[str, torch.Tensor]:
    width = max(len(sample.prompt) for sample in samples)
    ids = torch.full((len(samples), width), pad_id)
    mask = torch.zeros((len(samples), width), dtype=torch.int64)
    for row, sample in enumerate(samples):
        ids[row, : len(sample.prompt)] = torch.tensor(sample.prompt)
        mask[row, : len(sample.prompt)] = 1
    return {"input_ids": ids, "attention_mask": mask}


def _joined(samples: Sequence[Sample], pad_id: int) -> dict[str, torch.Tensor]:
    return collate(samples, pad_id=pad_id)


def _after_text(module: Any, prompt: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
    ids = torch.cat([prompt, new])[None]
    return _last(module(input_ids=ids, attention_mask=torch.ones_like(ids)))


def _after_start(module: Any, prompt: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
    start = new.new_tensor([module.config.decoder_start_token_id])
    ids = prompt[None]
    made = torch.cat([start, new])[None]
    return _last(module(input_ids=ids, attention_mask=torch.ones_like(ids), decoder_input_ids=made))


def _no_text(module: Any, prompt: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
    raise NotImplementedError("an encoder writes no text")


def _last(output: Any) -> torch.Tensor:
    logits: torch.Tensor = output.logits[0, -1].float()
    return logits


DECODER = Form(collate=_joined, closes_prompt=False, ahead=1, next_logits=_after_text)
SEQ2SEQ = Form(
    collate=collate_pairs, closes_prompt=True, ahead=0, next_logits=_after_start, mean_loss=True
)
ENCODER = Form(
    collate=collate_classes,
    closes_prompt=True,
    ahead=0,
    next_logits=_no_text,
    mean_loss=True,
    classes=True,
)
FORMS: Mapping[str, Form] = {"decoder": DECODER, "seq2seq": SEQ2SEQ, "encoder": ENCODER}
