"""DeepSpeed's configuration of a job."""

from __future__ import annotations

from typing import Any

from jobs.contract.records import Overrides
from jobs.geometry import batch_geometry
from jobs.spec import EngineSpec, Semantic

# Buckets bound the memory of a reduction, in elements; a smaller model needs smaller ones.
MAX_BUCKET_ELEMENTS = 50_000_000
# ZeRO-3 keeps parameters below this many elements whole on every rank (DeepSpeed's default).
PERSISTENCE_THRESHOLD = 100_000


def engine_config(
    semantic: Semantic,
    overrides: Overrides,
    *,
    trained_elements: int,
    overlap: bool,
    persistence_threshold: int = PERSISTENCE_THRESHOLD,
) -> dict[str, Any]:
    """Return DeepSpeed's configuration. Pure.

    `trained_elements`: sum of the sizes of all trained parameters; `overlap`: reduce while the
    backward pass still runs (pays on GPUs only).
    """
    geometry, train, layout = batch_geometry(semantic, overrides), semantic.train, semantic.engine
    config: dict[str, Any] = {
        "train_batch_size": geometry.global_batch,
        "train_micro_batch_size_per_gpu": geometry.micro_batch,
        "gradient_accumulation_steps": geometry.accumulation,
        "gradient_clipping": train.max_grad_norm,
        "steps_per_print": 2**31,  # the loop has its own metrics
        "wall_clock_breakdown": False,
        "zero_optimization": _zero(
            layout,
            bucket=max(1, min(MAX_BUCKET_ELEMENTS, trained_elements)),
            overlap=overlap,
            persistence_threshold=persistence_threshold,
        ),
        "optimizer": {
            "type": "AdamW",
            "params": {
                "torch_adam": True,  # nothing is compiled
                # DeepSpeed warms some optimizers up with a step on zero gradients; at rate 0
                # it changes no weight. `Engine.set_lr` gives the real rate before each step.
                "lr": 0.0,
                "betas": list(train.adam_betas),
                "eps": train.adam_epsilon,
                "weight_decay": train.weight_decay,
            },
        },
    }
    if layout.precision == "bf16":
        # Stage 1: add each micro-step's gradient in fp32, not the window's sum in bf16.
        config["bf16"] = {"enabled": True, "immediate_grad_update": True}
        config["communication_data_type"] = "fp32"  # ranks add up unrounded gradients
        if layout.zero_stage:  # at stage 0 DeepSpeed can only sum in the model's own type
            config["data_types"] = {"grad_accum_dtype": "fp32"}
    if layout.offload is not None:
        config["zero_force_ds_cpu_optimizer"] = False
    for key, value in layout.deepspeed.items():
        *parents, last = key.split(".")
        section = config
        for parent in parents:
            section = section.setdefault(parent, {})
        section[last] = value
    return config


def _zero(
    layout: EngineSpec, *, bucket: int, overlap: bool, persistence_threshold: int
) -> dict[str, Any]:
    zero: dict[str, Any] = {"stage": layout.zero_stage, "overlap_comm": overlap}
    if layout.zero_stage:
        zero |= {"reduce_bucket_size": bucket, "allgather_bucket_size": bucket}
    if layout.zero_stage == 3:
        zero |= {
            "stage3_prefetch_bucket_size": bucket,
            "stage3_param_persistence_threshold": persistence_threshold,
        }
    if layout.offload is not None:
        # Adam as everywhere else, on the CPU: nothing is compiled.
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": overlap}
    if layout.offload == "parameters":
        zero["offload_param"] = {"device": "cpu", "pin_memory": overlap}
    return zero
