"""Greedy generation of an answer, one example at a time.

Without padding a text depends neither on the batch that its example lies in nor on the rank.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from worker.collate import Encoder
from worker.forms import DECODER, Form


@dataclass(frozen=True, slots=True, kw_only=True)
class Writer:
    """Writes answers of at most `limit` tokens after prompts that leave room for them."""

    encoder: Encoder
    limit: int
    form: Form = DECODER

    def prompt(self, source: str) -> list[int]:
        """Return a prompt's tokens. Its length does not depend on the gold answer."""
        # The empty answer is the end token alone, which is one of the new tokens.
        room = replace(self.encoder, max_length=self.encoder.max_length - self.limit + 1)
        return list(room.encode(source, "").prompt)

    def write(
        self,
        module: Any,
        prompts: Sequence[Sequence[int]],
        *,
        device: torch.device,
        lockstep: int = 0,
        beat: Callable[[], None] = lambda: None,
    ) -> list[str]:
        """Return the text after each prompt, its white space trimmed.

        `lockstep`: every rank makes the forward passes of so many full answers, because they
        contain collectives (ZeRO-3). 0: an answer stops at its end token.
        """
        texts = []
        for place in range(max(lockstep, len(prompts))):
            prompt = prompts[min(place, len(prompts) - 1)]
            text = self._write_one(module, prompt, device=device, to_the_limit=lockstep > 0)
            if place < len(prompts):
                texts.append(text)
            beat()
        return texts

    def _write_one(
        self, module: Any, prompt: Sequence[int], *, device: torch.device, to_the_limit: bool
    ) -> str:
        tokenizer = self.encoder.tokenizer
        ids = torch.tensor(list(prompt), device=device)
        made = ids[:0]
        new: list[int] = []
        ended = False
        for _ in range(self.limit):
            token = int(self.form.next_logits(module, ids, made).argmax())
            ended = ended or token == tokenizer.eos_token_id
            if ended and not to_the_limit:
                break
            if not ended:
                new.append(token)
            made = torch.cat([made, made.new_tensor([token])])
        text: str = tokenizer.decode(new, skip_special_tokens=True)
        return text.strip()
