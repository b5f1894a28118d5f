"""pydantic's errors in our words: what is wrong, and how to write it instead."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from jobs.catalog import METHOD_FAMILIES
from jobs.matrix.fields import children
from jobs.matrix.findings import Finding
from jobs.names import printable
from jobs.suggestions import did_you_mean
from jobs.yaml_scalars import meant_number
from jobs.yaml_strict import KeyPath, Node

_NUMBER_TYPES = {
    "int_type": "a whole number",
    "float_type": "a number",
    "int_from_float": "a whole number",
}
_TYPES = {
    **_NUMBER_TYPES,
    "string_type": "text",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}
_BOUNDS = {
    "greater_than": ("gt", "greater than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}
_LENGTHS = {"too_long": "max_length", "too_short": "min_length"}
_QUOTED = re.compile(r"`([A-Za-z0-9_.]+)`")


def finding_of(error: Mapping[str, Any], section: str, raw: Node) -> Finding:
    """Return the finding for one of pydantic's errors about a section whose value is `raw`.

    pydantic's location also names the union member that it tried; those parts are dropped.
    """
    kind = error["type"]
    path: KeyPath = (section, *_in_data(error["loc"], raw, missing=kind == "missing"))
    if kind == "missing":
        return _missing(path, raw)
    if kind == "extra_forbidden":
        return _unknown_key(path, raw)
    return _wrong_value(path, error, raw)


def _wrong_value(path: KeyPath, error: Mapping[str, Any], raw: Node) -> Finding:
    kind, given, context = error["type"], error.get("input"), error.get("ctx", {})
    if kind == "value_error":
        return _of_validator(path, str(context.get("error", error["msg"])), raw)
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        return _choice((*path, "name"), context)
    if kind in ("literal_error", "enum"):
        expected = re.findall(r"'([^']*)'", context["expected"])
        message = f"{printable(given)} is not one of {', '.join(expected)}"
        return Finding(path=path, message=message, fix=did_you_mean(str(given), expected))
    if kind in _TYPES:
        return _wrong_type(path, _TYPES[kind], given, number=kind in _NUMBER_TYPES)
    message, fix = error["msg"], "correct the value"
    if kind in _LENGTHS:
        number = context[_LENGTHS[kind]]
        message, fix = f"must have {number} items", f"write a list of {number}"
    if kind in _BOUNDS:
        name, words = _BOUNDS[kind]
        bound = f"{words} {context[name]:g}"
        message, fix = f"must be {bound}, not {printable(given)}", f"write a value {bound}"
    return Finding(path=path, message=message, fix=fix)


def _in_data(location: Sequence[Any], raw: Node, *, missing: bool) -> list[Any]:
    path: list[Any] = []
    node: Any = raw
    for index, part in enumerate(location):
        inside = isinstance(node, dict) and part in node
        inside = inside or (isinstance(node, list) and isinstance(part, int) and part < len(node))
        if inside:
            node = node[part]
        elif not (missing and index == len(location) - 1):
            continue
        path.append(part)
    return path


def _missing(path: KeyPath, raw: Node) -> Finding:
    if isinstance(path[-1], int):  # a tuple of fixed length
        return Finding(path=path[:-1], message="has too few items", fix="add the missing ones")
    fix = f"add `{path[-1]}:`"
    names = children(tuple(str(p) for p in path[:-1])) or [str(path[-1])]
    given = raw
    for part in path[1:-1]:
        given = given[part] if isinstance(given, dict) else None  # type: ignore[index]
    others = [str(key) for key in given if key not in names] if isinstance(given, dict) else []
    for other in others:  # `learning_rate` given, `lr` missing: say it once, where it helps
        if f"`{path[-1]}`" in did_you_mean(other, names):
            fix = f"rename `{other}` to `{path[-1]}`"
    return Finding(path=path, message="is required", fix=fix, at_key=True, of_whole=True)


def _unknown_key(path: KeyPath, raw: Node) -> Finding:
    parent = tuple(str(part) for part in path[:-1])
    names = children(parent) or []
    message = f"unknown key {printable(path[-1])}"
    if parent == ("method",) and isinstance(raw, dict) and path[-1] in names:  # another method's
        message = f"`{path[-1]}` does not belong to method {printable(raw.get('name'))}"
        fix = "remove it, or replace the whole `method`"
        return Finding(path=path, message=message, fix=fix, at_key=True)
    return Finding(path=path, message=message, fix=did_you_mean(str(path[-1]), names), at_key=True)


def _choice(path: KeyPath, context: Mapping[str, Any]) -> Finding:
    tags = re.findall(r"'([^']*)'", str(context.get("expected_tags", "")))
    if "tag" not in context:
        return Finding(
            path=path,
            message="is required",
            fix=f"add `{path[-1]}:`, one of {', '.join(METHOD_FAMILIES)}",
            at_key=True,
            of_whole=True,
        )
    message = f"{printable(context['tag'])} is not one of {', '.join(tags)}"
    return Finding(path=path, message=message, fix=did_you_mean(str(context["tag"]), tags))


def _wrong_type(path: KeyPath, wanted: str, given: Any, *, number: bool) -> Finding:
    if given is None:
        return Finding(path=path, message=f"is empty; it must be {wanted}", fix="write a value")
    meant = meant_number(given) if number and isinstance(given, str) else None
    if meant is not None and isinstance(given, str):
        bare = given.strip().replace("_", "")
        how = "without quotes" if bare == given.strip() else "without quotes and `_`"
        return Finding(
            path=path,
            message=f"must be {wanted}, not the text {printable(given)}",
            fix=f"write {bare} {how}",
        )
    fix = f"write {wanted}"
    if wanted == "text" and isinstance(given, int | float):
        fix = f'quote it: "{str(given).lower() if isinstance(given, bool) else given}"'
    elif isinstance(given, list) and wanted != "a list":
        fix = f"write {wanted}; several values to try belong below `matrix:`"
    return Finding(path=path, message=f"must be {wanted}, not {_kind(given)}", fix=fix)


def _kind(value: Any) -> str:
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"the text {printable(value)}" if isinstance(value, str) else printable(value)


def _of_validator(path: KeyPath, message: str, raw: Node) -> Finding:
    """A validator of the spec names the field it means first, in backticks."""
    named = _QUOTED.search(message)
    if named is not None:
        field = (*path, *named[1].split("."))
        present: Any = raw
        for part in field[1:]:
            present = present.get(part) if isinstance(present, dict) else None
        if present is not None:
            path = field
    return Finding(path=path, message=message, fix="change one of them", of_whole=True)
