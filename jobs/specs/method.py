"""Tuning methods: what of the model is trained, and their own parameters."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

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


class CompacterSpec(SpecModel):
    """Compacter (Karimi Mahabadi et al. 2021, arXiv 2106.04647): adapters of few numbers."""

    name: Literal["compacter"]
    rank: PositiveInt = 8  # of the bottleneck
    blocks: PositiveInt = 4  # both `rank` and the model's width are multiples of it

    @model_validator(mode="after")
    def _divides(self) -> CompacterSpec:
        if self.rank % self.blocks:
            raise ValueError(f"`rank` {self.rank} is not a multiple of `blocks` {self.blocks}")
        return self


class ApetSpec(SpecModel):
    """APET (Su et al. 2023, arXiv 2306.02320): a method's number of parameters, anywhere.

    `budget`: the method whose number it is, counted on the model, or a number. Half goes to
    inserted modules, half to the model's own tensors, as drawn by `pick_seed`.
    """

    name: Literal["apet"]
    budget: Literal["lora", "adapter", "soft_prompt", "bitfit"] | PositiveInt
    pick_seed: NonNegativeInt | None = None  # None: the job's seed
    masks: bool = False  # single elements of one more tensor, so that the budget is met exactly
    lora_rank: PositiveInt = 8
    adapter_rank: PositiveInt = 24
    soft_prompt_tokens: PositiveInt = 100  # that `budget: soft_prompt` counts


MethodSpec = Annotated[
    LoraSpec
    | FullSpec
    | SubsetSpec
    | Ia3Spec
    | PromptSpec
    | PrefixSpec
    | BitfitSpec
    | AdapterSpec
    | ParallelAdapterSpec
    | CompacterSpec
    | ApetSpec,
    Field(discriminator="name"),
]


def virtual_tokens(method: MethodSpec) -> int:
    """Return how many positions before the input a method takes for itself."""
    return method.tokens if isinstance(method, PromptSpec | PrefixSpec) else 0
