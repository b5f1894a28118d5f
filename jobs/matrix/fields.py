"""Which fields a cell has: read off the spec's models, so there is one author.

A cell is {model, method, task, train, engine, seed}, or of a command {command, engine, seed}, and,
about running it, `RUN_SECTIONS`; a field is named by
a dotted key such as `train.lr`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

from jobs.matrix.findings import FieldPath
from jobs.spec import CommandSemantic, MethodSpec, Run, Semantic
from jobs.suggestions import did_you_mean

SEMANTIC_SECTIONS = ("model", "method", "task", "train", "engine", "command")
RUN_SECTIONS = ("resources", "save", "resume", "retry", "grace_seconds", "packages", "priority")
REQUIRED_SECTIONS = ("model", "method", "task", "train")  # of a training; a command has `command`
SEED: FieldPath = ("seed",)

# Fields of the spec that the submission fills in, never a matrix.
RESERVED = frozenset(
    {("model", "content_digest"), ("task", "content_digest"), ("command", "input_digests")}
)
_SEMANTIC_FIELDS = {**CommandSemantic.model_fields, **Semantic.model_fields}

_FREE = object()  # a mapping whose keys the spec does not list (model.config)


@cache
def sections() -> Mapping[str, Any]:
    """Return the annotation of each section of a cell."""
    named = {n: _SEMANTIC_FIELDS[n].rebuild_annotation() for n in (*SEMANTIC_SECTIONS, *SEED)}
    named |= {name: Run.model_fields[name].rebuild_annotation() for name in RUN_SECTIONS}
    return {**named, "method": MethodSpec}  # rebuilt, it would have lost its discriminator


def _children(annotation: Any) -> dict[str, Any] | object:
    """Return the fields below an annotation; `_FREE` for a mapping; empty for a plain value."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _children(get_args(annotation)[0])
    if origin in (Union, UnionType):
        found: dict[str, Any] = {}
        for option in get_args(annotation):
            below = _children(option)
            if not isinstance(below, dict):
                return below
            found |= below
        return found
    if origin is dict:
        return _FREE
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {n: f.rebuild_annotation() for n, f in annotation.model_fields.items()}
    return {}


def children(path: FieldPath) -> list[str] | None:
    """Return the names of the fields below a field; None where any name may stand."""
    below: dict[str, Any] | object = dict(sections())
    for part in path:
        if not isinstance(below, dict):
            return None
        below = _children(below[part]) if part in below else {}
    if not isinstance(below, dict):
        return None
    return [name for name in below if (*path, name) not in RESERVED]


def unknown_part(path: FieldPath) -> int | None:
    """Return the index of the first part that names no field, None when the path names one."""
    for index, part in enumerate(path):
        names = children(path[:index])
        if names is None:
            # Free names end here: nothing lies below a value of model.config.
            return index + 1 if len(path) > index + 1 else None
        if part not in names:
            return index
    return None


def fix_for(path: FieldPath) -> str:
    """Return what a path that names no field probably meant."""
    if len(path) == 1:
        tails = {key.split(".")[-1]: key for key in dotted_keys()}
        if path[0] in tails:
            return f"did you mean `{tails[path[0]]}`?"
        fix = did_you_mean(path[0], tails)
        word = fix.removeprefix("did you mean `").removesuffix("`?")
        if word in tails:
            return f"did you mean `{tails[word]}`?"
        return f"write a dotted key such as train.lr; sections: {', '.join(sections())}"
    index = unknown_part(path)
    assert index is not None
    if index >= len(path):
        return "remove what follows the last key"
    parent = ".".join(path[:index])
    fix = did_you_mean(path[index], children(path[:index]) or [])
    if fix.startswith("did you mean `") and parent:
        return fix.replace("`", f"`{parent}.", 1)
    return fix


@cache
def dotted_keys() -> tuple[str, ...]:
    """Return every dotted key that the spec lists, sections included."""
    return tuple(".".join(path) for path in _walk(()))


def _walk(path: FieldPath) -> Iterator[FieldPath]:
    for name in children(path) or []:
        yield (*path, name)
        yield from _walk((*path, name))


@cache
def default_of(path: FieldPath) -> Any:
    """Return the value that a field has when nobody sets it; None when it has no such value."""
    section = {**_SEMANTIC_FIELDS, **Run.model_fields}.get(path[0])
    value = section.get_default(call_default_factory=True) if section else None
    for part in path[1:]:
        value = getattr(value, part, None)
    return value if isinstance(value, str | int | float | bool) else None
