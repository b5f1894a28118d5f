"""What can be known of a model and its tuning method without torch."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from jobs.catalog import (
    ARCHITECTURES,
    METHOD_FAMILIES,
    Architecture,
    ConfigKey,
    architecture_of,
    full_config,
    supported_families,
)
from jobs.checkpoint_size import shapes_of
from jobs.matrix.findings import Finding
from jobs.model_weights import check_weights
from jobs.names import printable
from jobs.sources import SourceAbsent, SourceMissing, find_model, hub_snapshot
from jobs.spec import LoraSpec, MethodSpec, ModelSpec, SubsetSpec
from jobs.suggestions import did_you_mean
from jobs.yaml_scalars import meant_number

_KINDS: dict[str, tuple[tuple[type, ...], str]] = {
    "integer": ((int,), "a whole number"),
    "number": ((int, float), "a number"),
    "text": ((str,), "text"),
    "flag": ((bool,), "true or false"),
}
_MAX_CONFIG_BYTES = 1 << 20


def check_model(model: ModelSpec, *, base_dir: Path, models_root: Path | None) -> Iterator[Finding]:
    """Yield what is wrong with the `model` section alone."""
    named = (
        ("path", model.path, model.revision),
        ("tokenizer.path", model.tokenizer.path, None),
    )
    for path, value, revision in named:
        if value is not None:
            try:
                found = find_model(
                    value, base_dir=base_dir, models_root=models_root, revision=revision
                )
                if path == "path":
                    check_weights(found, revision=revision)
            except SourceMissing as error:
                where = ("model", *path.split("."))
                wanted = error.fetchable
                if wanted is not None and path != "path":
                    wanted = replace(wanted, weights=False)
                yield Finding(
                    path=where,
                    message=str(error),
                    fix=error.fix,
                    fetchable=wanted,
                    absent=value if isinstance(error, SourceAbsent) else None,
                )
    if model.path is not None and model.architecture is not None:
        yield Finding(
            path=("model", "architecture"),
            message="belongs to `config`; a `path` says its own architecture",
            fix="remove it",
            at_key=True,
        )
    elif model.config is not None:
        yield from _check_config(model)


def _check_config(model: ModelSpec) -> Iterator[Finding]:
    architecture = architecture_of(model.family, model.architecture)
    config = model.config or {}
    if architecture is None:
        if model.architecture is None:
            return  # the family has none yet: the table of methods says it
        known = [a.name for a in ARCHITECTURES.values() if a.family == model.family]
        message = f"unknown architecture {printable(model.architecture)} of family {model.family}"
        path = ("model", "architecture")
        yield Finding(path=path, message=message, fix=did_you_mean(model.architecture, known))
        return
    wrong = False
    for name, value in config.items():
        finding = _check_key(architecture, name, value)
        if finding is not None:
            wrong = True
            yield finding
    if not wrong:
        yield from _check_multiples(architecture, config)


def _check_key(architecture: Architecture, name: str, value: Any) -> Finding | None:
    path = ("model", "config", name)
    if name in architecture.reserved:
        message = f"`{name}` cannot be set here"
        return Finding(path=path, message=message, fix=architecture.reserved[name], at_key=True)
    key = architecture.keys.get(name)
    if key is None:
        message = f"unknown key {printable(name)} of architecture {architecture.name}"
        fix = did_you_mean(name, architecture.keys)
        return Finding(path=path, message=message, fix=fix, at_key=True)
    types, words = _KINDS[key.kind]
    if not isinstance(value, types) or (isinstance(value, bool) and key.kind != "flag"):
        meant = meant_number(value) if isinstance(value, str) else None
        fix = f"write {value} without quotes" if meant is not None else f"write {words}"
        return Finding(path=path, message=f"must be {words}, not {printable(value)}", fix=fix)
    return _check_range(path, key, value)


def _check_range(path: tuple[str, ...], key: ConfigKey, value: Any) -> Finding | None:
    if key.choices and value not in key.choices:
        message = f"{printable(value)} is not one of {', '.join(key.choices)}"
        return Finding(path=path, message=message, fix=did_you_mean(str(value), key.choices))
    if key.least is not None and value < key.least:
        bound = f"at least {key.least:g}"
    elif key.below is not None and value >= key.below:
        bound = f"less than {key.below:g}"
    else:
        return None
    message = f"must be {bound}, not {printable(value)}"
    return Finding(path=path, message=message, fix=f"write a value {bound}")


def _check_multiples(architecture: Architecture, config: dict[str, Any]) -> Iterator[Finding]:
    full = full_config(architecture, config)
    for size, part in architecture.multiples:
        if size not in full or part not in full or int(full[size]) % int(full[part]) == 0:
            continue
        # Point at what somebody wrote; the other one is perhaps a default.
        culprit = size if size in config else part
        default = "" if part in config else " (its default)"
        yield Finding(
            path=("model", "config", culprit),
            message=f"`{size}` {full[size]} is not a multiple of `{part}` {full[part]}{default}",
            fix=f"make {size} a multiple of {part}",
        )


def check_method(
    method: MethodSpec, model: ModelSpec, *, base_dir: Path, models_root: Path | None
) -> Iterator[Finding]:
    """Yield what does not fit between method and model."""
    families = supported_families(method.name)
    if model.family not in families:
        others = sorted(set().union(*METHOD_FAMILIES.values()))
        message = f"method {method.name} cannot tune family {model.family}"
        yield Finding(
            path=("model", "family"),
            message=message,
            fix=f"supported: {', '.join(families or others)}",
        )
        return
    if isinstance(method, SubsetSpec):
        yield from _check_subset(method, model, base_dir=base_dir, models_root=models_root)
    if not isinstance(method, LoraSpec):
        return
    architecture = known_architecture(model, base_dir=base_dir, models_root=models_root)
    if method.targets is not None and not method.targets:
        path = ("method", "targets")
        yield Finding(path=path, message="is an empty list", fix="name modules, or remove it")
    for index, target in enumerate(method.targets or ()):
        if architecture is not None and target not in architecture.linear_modules:
            message = f"{architecture.name} has no module {printable(target)} to adapt"
            fix = did_you_mean(target, architecture.linear_modules)
            yield Finding(path=("method", "targets", index), message=message, fix=fix)


def _check_subset(
    method: SubsetSpec, model: ModelSpec, *, base_dir: Path, models_root: Path | None
) -> Iterator[Finding]:
    """Yield that so many parameters cannot be trained, where the model's are known.

    The bounds are generous (a learned vocabulary may be smaller): the worker knows exactly.
    """
    if model.config is not None and any(_check_config(model)):
        return
    directory = None
    if model.path is not None:
        try:
            found = find_model(
                model.path, base_dir=base_dir, models_root=models_root, revision=model.revision
            )
        except SourceMissing:
            return  # the model's own checks say it
        snapshot = found if isinstance(found, Path) else hub_snapshot(found, model.revision)
        if snapshot is None:
            return
        directory = snapshot
    shapes = shapes_of(model, directory)
    if shapes is None:
        return
    sizes = [math.prod(shape) for shape in shapes.values()]
    least, most = min(sizes), sum(sizes)
    if not least <= method.parameters <= most:
        yield Finding(
            path=("method", "parameters"),
            message=f"{method.parameters} cannot be trained: the model has {most} parameters and"
            f" its smallest tensor {least}",
            fix=f"write a number from {least} to {most}, or method full",
            of_whole=True,
        )


def known_architecture(
    model: ModelSpec, *, base_dir: Path, models_root: Path | None
) -> Architecture | None:
    """Return the architecture if the catalog has it; a local model's config.json is read."""
    if model.path is None:
        return architecture_of(model.family, model.architecture)
    try:
        found = find_model(
            model.path, base_dir=base_dir, models_root=models_root, revision=model.revision
        )
        if not isinstance(found, Path):
            return None
        with (found / "config.json").open("rb") as file:
            config = json.loads(file.read(_MAX_CONFIG_BYTES))
    except (SourceMissing, OSError, ValueError):
        return None  # the worker will say it
    return ARCHITECTURES.get(str(config.get("model_type"))) if isinstance(config, dict) else None
