"""Tuning methods: what of the model is trained, and their own parameters."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from jobs.specs.base import SpecModel


class LoraSpec(SpecModel):
    """LoRA (Hu et al. 2021, arXiv 2106.09685) through peft."""

    name: Literal["lora"]
    rank: PositiveInt = 8
    alpha: PositiveFloat = 16.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    targets: tuple[str, ...] | None = None  # module names; default by architecture (jobs.catalog)


class FullSpec(SpecModel):
    """Full fine-tuning: every parameter is trained."""

    name: Literal["full"]


class SubsetSpec(SpecModel):
    """A random subset of the model's own tensors: the job's seed picks whole ones."""

    name: Literal["subset"]
    parameters: PositiveInt  # at most so many are trained


MethodSpec = Annotated[LoraSpec | FullSpec | SubsetSpec, Field(discriminator="name")]
