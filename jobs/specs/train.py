"""How long and how to train, and on which layout of processes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from jobs.known_tasks import Metric
from jobs.specs.base import SpecModel


class TrainSpec(SpecModel):
    """How long and how to train. A step is an optimizer step."""

    steps: PositiveInt
    global_batch: PositiveInt = 8
    micro_batch: PositiveInt | None = None  # per rank; default: global_batch / ranks
    lr: PositiveFloat = 1e-3
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup_steps: NonNegativeInt = 0
    weight_decay: NonNegativeFloat = 0.0
    adam_betas: tuple[float, float] = (0.9, 0.999)
    adam_epsilon: PositiveFloat = 1e-8
    max_grad_norm: NonNegativeFloat = 1.0  # 0: no clipping
    evaluate_every_steps: PositiveInt | None = None  # default: only at the end
    best_metric: Literal["loss"] | Metric = "loss"  # of the dev split
    select: Literal["best", "last"] = "best"  # which weights the test evaluation uses

    @model_validator(mode="after")
    def _warmup_fits(self) -> TrainSpec:
        if self.warmup_steps > self.steps:
            raise ValueError(f"`warmup_steps` {self.warmup_steps} exceeds `steps` {self.steps}")
        return self


class EngineSpec(SpecModel):
    """The DeepSpeed engine and its layout; part of the identity, since sums round by layout."""

    ranks: Annotated[int, Field(ge=1, le=4096)] = 1
    zero_stage: Annotated[int, Field(ge=0, le=3)] = 2
    precision: Literal["fp32", "bf16"] = "fp32"
    threads_per_rank: Annotated[int, Field(ge=1, le=1024)] = 1
