"""What must fit together across a cell's sections: sizes, lengths, times."""

from __future__ import annotations

from collections.abc import Iterator

from jobs.catalog import architecture_of, full_config
from jobs.known_tasks import ALWAYS
from jobs.matrix.findings import Finding
from jobs.spec import (
    EngineSpec,
    MethodSpec,
    ModelSpec,
    ResourcesSpec,
    RetrySpec,
    TaskSpec,
    TrainSpec,
    virtual_tokens,
)


def check_train(train: TrainSpec, engine: EngineSpec) -> Iterator[Finding]:
    """Yield what is wrong with the length and the batch of the training."""
    batch, ranks = train.global_batch, engine.ranks
    if batch % ranks:
        yield Finding(
            path=("train", "global_batch"),
            message=f"{batch} is not a multiple of engine.ranks {ranks}",
            fix=f"write {max(1, round(batch / ranks)) * ranks}, or change engine.ranks",
        )
    elif train.micro_batch is not None and batch % (train.micro_batch * ranks):
        yield Finding(
            path=("train", "micro_batch"),
            message=f"train.global_batch {batch} is not a multiple of micro_batch × ranks"
            f" = {train.micro_batch} × {ranks}",
            fix=f"write a divisor of {batch // ranks}",
        )
    every = train.evaluate_every_steps
    if every is not None and every > train.steps:
        yield Finding(
            path=("train", "evaluate_every_steps"),
            message=f"{every} is more than train.steps {train.steps}: it would never happen",
            fix=f"write at most {train.steps}, or remove it (the end is always evaluated)",
        )
    low, high = train.adam_betas
    if not (0 <= low < 1 and 0 <= high < 1):
        yield Finding(
            path=("train", "adam_betas"),
            message="both must be at least 0 and less than 1",
            fix="write e.g. [0.9, 0.999]",
        )


def check_best_metric(train: TrainSpec, task: TaskSpec) -> Iterator[Finding]:
    """Yield a metric to select by that the task does not measure."""
    measured = sorted({*ALWAYS, *task.measured})
    if train.best_metric not in measured:
        yield Finding(
            path=("train", "best_metric"),
            message=f"{train.best_metric} is not measured of this task",
            fix=f"write one of {', '.join(measured)}, or add it to task.metrics",
        )


def check_length(task: TaskSpec, model: ModelSpec, method: MethodSpec) -> Iterator[Finding]:
    """Yield an example length that the model has no positions for."""
    architecture = architecture_of(model.family, model.architecture)
    if model.config is None or architecture is None or architecture.positions is None:
        return
    positions = full_config(architecture, model.config)[architecture.positions]
    taken = virtual_tokens(method)
    if isinstance(positions, int) and task.max_length + taken > positions:
        own = f" and {taken} tokens of method {method.name}" if taken else ""
        yield Finding(
            path=("task", "max_length"),
            message=f"{task.max_length}{own} exceeds the model's {architecture.positions}"
            f" {positions}",
            fix=f"write at most {max(1, positions - taken)}, or raise"
            f" model.config.{architecture.positions}",
        )


def check_resources(
    resources: ResourcesSpec, retry: RetrySpec, engine: EngineSpec, grace_seconds: float
) -> Iterator[Finding]:
    """Yield what an allocation could not be."""
    if resources.nodes is not None and engine.ranks % resources.nodes:
        yield Finding(
            path=("resources", "nodes"),
            message=f"engine.ranks {engine.ranks} is not a multiple of nodes {resources.nodes}",
            fix="give each node the same number of ranks",
        )
    if resources.pack > 1 and (resources.nodes or 1) > 1:
        yield Finding(
            path=("resources", "pack"),
            message=f"cells of {resources.nodes} nodes cannot share an allocation of one",
            fix="remove resources.nodes, or resources.pack",
        )
    if grace_seconds >= 60 * resources.time_limit_minutes:
        yield Finding(
            path=("grace_seconds",),
            message=f"{grace_seconds:g} s is as long as the time limit of"
            f" {resources.time_limit_minutes} min",
            fix="lower it, or raise resources.time_limit_minutes",
        )
    cap = retry.max_memory_gb
    if cap is not None and cap < resources.memory_gb:
        yield Finding(
            path=("retry", "max_memory_gb"),
            message=f"{cap:g} is less than resources.memory_gb {resources.memory_gb:g}",
            fix=f"write at least {resources.memory_gb:g}, or remove it",
        )
