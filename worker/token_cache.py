"""Tokenised data, kept: what was tokenised once need not be again, by whichever job.

A file is named by all that decides its content (data and how they are read, tokenizer, family) and
holds samples in the order in which they are made. Writers of one name write the same bytes and put
them in place by one rename, so they may be many. What does not fit its own digest is made anew.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from durable.files import private_dir, publish_file
from durable.regular import read_regular
from jobs.contract.paths import JobDir
from jobs.spec import canonical_json
from worker.collate import Sample

FORMAT = 1  # grows when equal keys may give other samples
MAX_BYTES = 8 << 30
LEAST_SAMPLES = 2_000  # fewer are made sooner than they are found
PARTS = ("prompts", "prompt_ends", "answers", "answer_ends")
log = logging.getLogger("orch")


def token_directory(job: JobDir) -> Path:
    """Return where a state directory keeps tokenised data, for all of its jobs."""
    return job.path.parent.parent / "tokens"


def tokens_key(**parts: Any) -> str:
    """Return what names tokenised data; equal parts give equal samples."""
    return hashlib.sha256(canonical_json({"format": FORMAT, **parts})).hexdigest()[:32]


def tokenizer_identity(tokenizer: Any) -> str:
    """Return a digest of all that a fast tokenizer does to a text."""
    import tokenizers

    said = tokenizer.backend_tokenizer.to_str() + tokenizers.__version__
    ids = (tokenizer.eos_token_id, tokenizer.cls_token_id, tokenizer.sep_token_id)
    return hashlib.sha256(f"{said}{ids}".encode()).hexdigest()


@dataclass(slots=True)
class Tokens:
    """Samples in their order: found in the cache, or made and remembered."""

    known: Sequence[Sample] | None = None
    made: list[Sample] = field(default_factory=list)
    _place: int = 0

    @property
    def found(self) -> bool:
        """Whether the cache has them: texts are not needed then."""
        return self.known is not None

    def sample(self, make: Callable[[], Sample]) -> Sample:
        """Return the next sample."""
        if self.known is not None:
            self._place += 1
            return self.known[self._place - 1]
        self.made.append(make())
        return self.made[-1]


class TokenCache:
    """The files below one directory; without one nothing is kept."""

    def __init__(self, directory: Path | None, *, least: int = LEAST_SAMPLES) -> None:
        self._directory, self._least = directory, least
        self.outcome = "small"  # of the last name: found, made, or too small to be kept

    def open(self, key: str) -> Tokens:
        """Return the samples of this name, or none yet."""
        if self._directory is None:
            return Tokens()
        try:
            found = Tokens(known=decode(read_regular(self._path(key), limit=MAX_BYTES)))
            self.outcome = "found"
            return found
        except FileNotFoundError:
            return Tokens()
        except (OSError, ValueError) as error:
            log.warning("tokenised data are made anew: %s: %s", self._path(key), error)
            return Tokens()

    def keep(self, key: str, tokens: Tokens) -> bool:
        """Keep what was made, if it is worth it; tell whether. A full disk does no harm."""
        if self._directory is None or len(tokens.made) < self._least:
            return False
        try:
            private_dir(self._directory)
            publish_file(self._path(key), encode(tokens.made))
            self.outcome = "made"
        except OSError as error:
            log.warning("tokenised data are not kept: %s", error)
            return False
        return True

    def _path(self, key: str) -> Path:
        assert self._directory is not None
        return self._directory / f"{key}.safetensors"


def encode(samples: Sequence[Sample]) -> bytes:
    """Return samples as a safetensors file that holds its own digest."""
    flat = {
        "prompts": [token for sample in samples for token in sample.prompt],
        "prompt_ends": np.cumsum([len(sample.prompt) for sample in samples]),
        "answers": [token for sample in samples for token in sample.answer],
        "answer_ends": np.cumsum([len(sample.answer) for sample in samples]),
    }
    arrays = {name: np.asarray(values, dtype=np.int64) for name, values in flat.items()}
    return save(arrays, metadata={"digest": _digest(arrays)})


def decode(data: bytes) -> list[Sample]:
    """Return the samples of a file. Raises ValueError unless it is what it was when written."""
    try:
        length = int.from_bytes(data[:8], "little")
        said = json.loads(data[8 : 8 + length])["__metadata__"]["digest"]
        arrays = load(data)
        if said != _digest(arrays):
            raise ValueError("does not have its digest")
    except (SafetensorError, KeyError, UnicodeDecodeError) as error:
        raise ValueError(f"is no file of samples: {error!r}") from error
    prompts = _cut(arrays["prompts"], arrays["prompt_ends"])
    answers = _cut(arrays["answers"], arrays["answer_ends"])
    return [Sample(prompt, answer) for prompt, answer in zip(prompts, answers, strict=True)]


def _cut(flat: Any, ends: Any) -> Iterator[tuple[int, ...]]:
    values, start = flat.tolist(), 0
    for end in ends.tolist():
        yield tuple(values[start:end])
        start = end


def _digest(arrays: dict[str, Any]) -> str:
    whole = hashlib.sha256()
    for name in PARTS:
        whole.update(f"{name} {arrays[name].shape}\n".encode() + arrays[name].tobytes())
    return whole.hexdigest()
