"""How long and how to train, and on which layout of processes."""

from __future__ import annotations

from collections.abc import Mapping
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
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)] | None = None  # of `steps`, rounded up
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0  # of training's loss alone
    weight_decay: NonNegativeFloat = 0.0
    adam_betas: tuple[float, float] = (0.9, 0.999)
    adam_epsilon: PositiveFloat = 1e-8
    max_grad_norm: NonNegativeFloat = 1.0  # 0: no clipping
    evaluate_every_steps: PositiveInt | None = None  # default: only at the end
    eval_batch: PositiveInt | None = None  # sequences a forward pass of an evaluation
    best_metric: Literal["loss"] | Metric = "loss"  # of the dev split
    select: Literal["best", "last"] = "best"  # which weights the test evaluation uses
    # Evaluations of dev without a better `best_metric` after which training ends. None: never.
    early_stopping: PositiveInt | None = None

    @model_validator(mode="after")
    def _warmup_fits(self) -> TrainSpec:
        if self.warmup_steps > self.steps:
            raise ValueError(f"`warmup_steps` {self.warmup_steps} exceeds `steps` {self.steps}")
        if self.warmup_ratio is not None and self.warmup_steps:
            raise ValueError("`warmup_steps` and `warmup_ratio` say the same: give one of them")
        if self.early_stopping is not None and self.evaluate_every_steps is None:
            raise ValueError("`early_stopping` needs `evaluate_every_steps`")
        return self


# Keys of DeepSpeed's configuration that other keys of a matrix decide.
OWNED: Mapping[str, str] = {
    "train_batch_size": "train.global_batch",
    "train_micro_batch_size_per_gpu": "train.micro_batch",
    "gradient_accumulation_steps": "train.micro_batch",
    "gradient_clipping": "train.max_grad_norm",
    "optimizer": "train.lr and its neighbours",
    "scheduler": "train.schedule",
    "bf16": "engine.precision",
    "fp16": "engine.precision",
    "zero_optimization.stage": "engine.zero_stage",
    "zero_optimization.offload_optimizer": "engine.offload",
    "zero_optimization.offload_param": "engine.offload",
    "steps_per_print": "orch",
    "elasticity": "orch",
    "checkpoint": "orch",
}
PRESETS: Mapping[str, tuple[int, Literal["optimizer", "parameters"] | None]] = {
    "zero2": (2, None),
    "zero2_offload": (2, "optimizer"),
    "zero3": (3, None),
    "zero3_offload": (3, "parameters"),
}


class EngineSpec(SpecModel):
    """The DeepSpeed engine and its layout; part of the identity, since sums round by layout."""

    ranks: Annotated[int, Field(ge=1, le=4096)] = 1
    zero_stage: Annotated[int, Field(ge=0, le=3)] = 2
    precision: Literal["fp32", "bf16"] = "fp32"
    offload: Literal["optimizer", "parameters"] | None = None  # to the CPU; the latter both
    # Stage and offload by a name; `zero_stage` and `offload` are left out then.
    preset: Literal["zero2", "zero2_offload", "zero3", "zero3_offload"] | None = None
    # Further keys of DeepSpeed's configuration, e.g. {"zero_optimization.overlap_comm": true}.
    deepspeed: dict[str, int | float | str | bool] = Field(default={})
    threads_per_rank: Annotated[int, Field(ge=1, le=1024)] = 1

    @model_validator(mode="after")
    def _fits(self) -> EngineSpec:
        given = self.model_fields_set & {"zero_stage", "offload"}
        if self.preset is not None and given:
            raise ValueError(f"`preset` says `{min(given)}`: give one of them")
        if self.offload == "optimizer" and self.zero_stage == 0:
            raise ValueError("`offload: optimizer` needs `zero_stage` 1, 2 or 3")
        if self.offload == "parameters" and self.zero_stage != 3:
            raise ValueError("`offload: parameters` needs `zero_stage` 3")
        for key in self.deepspeed:
            owner = next((own for own in OWNED if f"{key}.".startswith(f"{own}.")), None)
            if owner is not None:
                raise ValueError(f"`deepspeed` key {key} is set by {OWNED[owner]}: leave it out")
        return self
