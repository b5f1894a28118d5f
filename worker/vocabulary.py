"""Tokenizers: from a path, or a byte-level BPE trained from the task's training text.

Training takes a fraction of a second for small tasks and is deterministic, so it is repeated at
every start instead of being stored; the digest of the outcome is compared when a run resumes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jobs.spec import TokenizerSpec, canonical_json
from worker.failures import Misconfigured

PAD, END = "<|pad|>", "<|end|>"


def load_tokenizer(spec: TokenizerSpec, *, path: Path | str | None, texts: Iterable[str]) -> Any:
    """Return a transformers fast tokenizer with a pad and an end token.

    `path`: where `tokenizer.path`, or else the model's own, was found; None: train one on
    `texts`. Raises `Misconfigured` when the path has no tokenizer or it has no end token.
    """
    tokenizer = train_tokenizer(spec, texts) if path is None else _from_path(path)
    if tokenizer.eos_token_id is None and tokenizer.sep_token_id is not None:
        tokenizer.eos_token = tokenizer.sep_token  # BERT's: what ends a text
    if tokenizer.eos_token_id is None:
        raise Misconfigured(f"tokenizer {path}: has no end-of-text token; choose another")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token  # masked everywhere: it never counts
    return tokenizer


def _from_path(path: Path | str) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(
            str(path), use_fast=True, trust_remote_code=False, local_files_only=True
        )
    except (OSError, ValueError, KeyError) as error:
        raise Misconfigured(
            f"model.tokenizer.path {path}: no tokenizer can be loaded from there ({error});"
            " give a directory with tokenizer.json"
        ) from error


def train_tokenizer(spec: TokenizerSpec, texts: Iterable[str]) -> Any:
    """Train a byte-level BPE of at most `spec.vocab_size` tokens; equal texts, equal result."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=spec.vocab_size,
        special_tokens=[PAD, END],
        # All bytes, sorted: any text can be written, and ids do not follow a hash order.
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=PAD, eos_token=END)


def vocabulary_digest(tokenizer: Any) -> str:
    """Return a digest of the mapping from tokens to ids and of the special ids."""
    facts = [sorted(tokenizer.get_vocab().items()), tokenizer.pad_token_id, tokenizer.eos_token_id]
    return "sha256:" + hashlib.sha256(canonical_json(facts)).hexdigest()
