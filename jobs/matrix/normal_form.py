"""What means the same is written the same, so that it is the same job; and it is written out.

Whatever the catalog would decide (architecture, configuration, LoRA's targets) goes into the
spec, so a spec says everything by itself and a later catalog cannot change what an old one
means. What a local path stands for is pinned by its content; what is not here has none, which
only a plan may have (`load_matrix(absent_ok=True)`).
"""

from __future__ import annotations

import math
from pathlib import Path

from jobs.catalog import Architecture, architecture_of, full_config
from jobs.sources import (
    SourceAbsent,
    content_digest,
    find_model,
    find_task,
    model_files,
    task_commit,
)
from jobs.spec import EngineSpec, LoraSpec, MethodSpec, ModelSpec, TaskSpec, TrainSpec
from jobs.specs.train import PRESETS
from jobs.task_files import every_file, task_files


def normal_model(model: ModelSpec, *, base_dir: Path, models_root: Path | None) -> ModelSpec:
    """Return a checked model in normal form. Raises OSError when its files cannot be read."""
    if model.path is not None:
        try:
            found = find_model(
                model.path, base_dir=base_dir, models_root=models_root, revision=model.revision
            )
        except SourceAbsent:
            return model
        digest = content_digest(model_files(found)) if isinstance(found, Path) else None
        return model.model_copy(update={"content_digest": digest})
    architecture = architecture_of(model.family, model.architecture)
    assert architecture is not None
    given = {
        name: float(value) if architecture.keys[name].kind == "number" else value
        for name, value in (model.config or {}).items()
    }
    return model.model_copy(
        update={
            "architecture": architecture.name,
            "config": full_config(architecture, given),
        }
    )


def normal_method(method: MethodSpec, architecture: Architecture | None) -> MethodSpec:
    """Return a checked method in normal form; the order of LoRA's targets means nothing."""
    if not isinstance(method, LoraSpec):
        return method
    targets = method.targets or (architecture.lora_targets if architecture else None)
    return method.model_copy(update={"targets": tuple(sorted(set(targets))) if targets else None})


def normal_task(task: TaskSpec, *, base_dir: Path, data_root: Path | None) -> TaskSpec:
    """Return a checked task in normal form. Raises OSError when its files cannot be read."""
    try:
        directory = find_task(
            task.path, base_dir=base_dir, data_root=data_root, revision=task.revision
        )
        files = every_file(task_files(directory, task))
    except SourceAbsent:
        return task
    revision = task_commit(directory) or task.revision
    if task.name == "plugin":  # only its code knows which files it reads
        files = [path for path in sorted(directory.iterdir()) if path.is_file()]
    return task.model_copy(update={"content_digest": content_digest(files), "revision": revision})


def normal_train(train: TrainSpec, engine: EngineSpec) -> TrainSpec:
    """Return a checked training in normal form; a warm-up's share of the steps becomes steps."""
    if train.warmup_ratio is not None:
        warmup = math.ceil(train.warmup_ratio * train.steps)
        train = train.model_copy(update={"warmup_steps": warmup, "warmup_ratio": None})
    if train.micro_batch is not None and train.micro_batch * engine.ranks == train.global_batch:
        return train.model_copy(update={"micro_batch": None})
    return train


def normal_engine(engine: EngineSpec) -> EngineSpec:
    """Return a checked engine in normal form; a preset becomes what it stands for."""
    if engine.preset is None:
        return engine
    stage, offload = PRESETS[engine.preset]
    return engine.model_copy(update={"zero_stage": stage, "offload": offload, "preset": None})
