"""The model that a job tunes, and its tokenizer."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, model_validator

from jobs.specs.base import SpecModel

Family = Literal["decoder", "seq2seq", "encoder"]


class TokenizerSpec(SpecModel):
    """Where the tokenizer comes from: a path, or trained from the task's training text."""

    path: str | None = None
    vocab_size: Annotated[int, Field(ge=260, le=1_000_000)] = 512


class ModelSpec(SpecModel):
    """A model: a local path or hub id, or a configuration with random weights of a fixed seed."""

    family: Family
    path: str | None = None
    revision: str | None = None
    architecture: str | None = None  # of `config`; default by family (jobs.catalog)
    config: dict[str, int | float | str | bool] | None = None
    init_seed: NonNegativeInt = 0
    # Of all of the model's dropouts, instead of what its own configuration says.
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = None
    tokenizer: TokenizerSpec = TokenizerSpec()
    content_digest: str | None = None  # of a local directory's files, filled in at submission

    @model_validator(mode="after")
    def _one_source(self) -> ModelSpec:
        if (self.path is None) == (self.config is None):
            raise ValueError("give exactly one of `path` and `config`")
        if self.path is None and self.revision is not None:
            raise ValueError("`revision` belongs to a `path`")
        return self
