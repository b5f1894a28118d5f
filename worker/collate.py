"""Examples -> token ids -> batches. The loss is on answer tokens only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

IGNORED = -100  # the label that a loss skips

Side = Literal["left", "right"]


@dataclass(frozen=True, slots=True)
class Sample:
    """One tokenised example: the prompt, then the answer with its end token."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]

    @property
    def length(self) -> int:
        """Tokens of prompt and answer."""
        return len(self.prompt) + len(self.answer)


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoder:
    """Turns input and output texts into samples of at most `max_length` tokens."""

    tokenizer: Any
    prompt: str  # with {input}
    max_length: int
    closes_prompt: bool = False  # with the end token
    on_cut: Callable[[int], None] = lambda _length: None  # hears the whole length of what is cut

    def encode(self, source: str, output: str) -> Sample:
        """Return the sample. A prompt that is too long loses its beginning, an answer its end."""
        # Not str.format: `{input.__class__}` in a text must stay a text.
        prompt = self._ids(self.prompt.replace("{input}", source))
        answer = [*self._ids(output), self.tokenizer.eos_token_id]
        whole = len(prompt) + len(answer) + self.closes_prompt
        if whole > self.max_length:
            self.on_cut(whole)
        answer = answer[: max(1, self.max_length - 1)]
        room = self.max_length - len(answer)
        # The first answer token is predicted from the prompt: at least one token of it stays.
        end = [self.tokenizer.eos_token_id]
        if self.closes_prompt:
            room -= 1
        prompt = prompt[-room:] if room > 0 else []
        if self.closes_prompt or not prompt:
            prompt = [*prompt, *end]
        return Sample(tuple(prompt), tuple(answer))

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False)
        return ids


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassEncoder:
    """Turns input texts and labels into samples of an encoder: the answer is a class's number."""

    tokenizer: Any
    prompt: str  # with {input}
    max_length: int
    classes: Mapping[str, int]  # answer -> number
    on_cut: Callable[[int], None] = lambda _length: None  # hears the whole length of what is cut

    def encode(self, source: str, output: str) -> Sample:
        """Return the sample. A prompt that is too long loses its end."""
        text = self.prompt.replace("{input}", source)
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False)
        first, last = self.tokenizer.cls_token_id, self.tokenizer.sep_token_id
        opens = [] if first is None else [first]
        closes = [self.tokenizer.eos_token_id if last is None else last]
        room = max(0, self.max_length - len(opens) - len(closes))
        if len(ids) > room:
            self.on_cut(len(opens) + len(ids) + len(closes))
        return Sample((*opens, *ids[:room], *closes), (self.classes[output],))


def collate(
    samples: Sequence[Sample], *, pad_id: int, side: Side = "right"
) -> dict[str, torch.Tensor]:
    """Return `input_ids`, `attention_mask` and `labels`, int64 of shape (samples, longest).

    Left padding adds `position_ids`, so that a sample's positions start at 0 on both sides.
    """
    width = max(sample.length for sample in samples)
    ids = torch.full((len(samples), width), pad_id)
    mask = torch.zeros((len(samples), width), dtype=torch.int64)
    labels = torch.full((len(samples), width), IGNORED)
    for row, sample in enumerate(samples):
        start = 0 if side == "right" else width - sample.length
        stop, answer = start + sample.length, start + len(sample.prompt)
        ids[row, start:stop] = torch.tensor(sample.prompt + sample.answer)
        mask[row, start:stop] = 1
        labels[row, answer:stop] = torch.tensor(sample.answer)
    batch = {"input_ids": ids, "attention_mask": mask, "labels": labels}
    if side == "left":
        batch["position_ids"] = (mask.cumsum(1) - 1).clamp(min=0)
    return batch


def labelled_tokens(samples: Sequence[Sample]) -> int:
    """Return how many tokens of the samples carry loss."""
    return sum(len(sample.answer) for sample in samples)
