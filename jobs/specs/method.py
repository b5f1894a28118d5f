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


class Ia3Spec(SpecModel):
    """(IA)3 (Liu et al. 2022, arXiv 2205.05638): keys, values and inner activations are scaled."""

    name: Literal["ia3"]


class PromptSpec(SpecModel):
    """Prompt tuning (Lester et al. 2021, arXiv 2104.08691): trained embeddings before the input.

    An encoder-decoder reads them with its encoder.
    """

    name: Literal["prompt"]
    tokens: PositiveInt = 20


class PrefixSpec(SpecModel):
    """Prefix tuning (Li and Liang 2021, arXiv 2101.00190): trained keys and values in each layer.

    `projection`: they come from a smaller table through a perceptron of `projection_size`.
    """

    name: Literal["prefix"]
    tokens: PositiveInt = 20
    projection: bool = False
    projection_size: PositiveInt | None = None  # None: the model's own width


class BitfitSpec(SpecModel):
    """BitFit (Ben Zaken et al. 2022, arXiv 2106.10199): biases alone are trained."""

    name: Literal["bitfit"]
    create: bool = False  # give linear layers that have no bias one


class AdapterSpec(SpecModel):
    """Adapters after attention and feed-forward (Houlsby et al. 2019, arXiv 1902.00751)."""

    name: Literal["adapter"]
    rank: PositiveInt = 8  # of the bottleneck


class ParallelAdapterSpec(SpecModel):
    """Adapters beside the feed-forward network (He et al. 2022, arXiv 2110.04366)."""

    name: Literal["parallel_adapter"]
    rank: PositiveInt = 8
    scale: PositiveFloat = 1.0


MethodSpec = Annotated[
    LoraSpec
    | FullSpec
    | SubsetSpec
    | Ia3Spec
    | PromptSpec
    | PrefixSpec
    | BitfitSpec
    | AdapterSpec
    | ParallelAdapterSpec,
    Field(discriminator="name"),
]


def virtual_tokens(method: MethodSpec) -> int:
    """Return how many positions before the input a method takes for itself."""
    return method.tokens if isinstance(method, PromptSpec | PrefixSpec) else 0
