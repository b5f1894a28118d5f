"""In what two checkpoints differ: manifest fields, files, and tensors of safetensors files.

Tensors are compared as bytes; nothing here needs torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from checkpoints.errors import BrokenCheckpoint
from checkpoints.store import OpenCheckpoint

_LENGTH_BYTES = 8
_BRIEF = 40  # characters of a value
_LEFT_OUT = frozenset({"files"})  # compared one by one


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """`where`: a field, a file, or a file and its tensor; `one` and `other`: in words."""

    where: str
    one: str
    other: str


def differences(one: OpenCheckpoint, other: OpenCheckpoint) -> Iterator[Difference]:
    """Yield all differences, manifest first. Raises `BrokenCheckpoint`, OSError."""
    yield from _fields(one.manifest.model_dump(mode="json"), other.manifest.model_dump(mode="json"))
    mine = {entry.path: entry for entry in one.manifest.files}
    theirs = {entry.path: entry for entry in other.manifest.files}
    for path in sorted(mine.keys() | theirs.keys()):
        if path not in mine or path not in theirs:
            there = ("there", "missing") if path in mine else ("missing", "there")
            yield Difference(where=path, one=there[0], other=there[1])
        elif mine[path].digest != theirs[path].digest:
            yield from _contents(path, one.read(path), other.read(path))


def _fields(one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[Difference]:
    for name in sorted(one.keys() | other.keys()):
        mine, theirs = one.get(name), other.get(name)
        if name not in _LEFT_OUT and mine != theirs:
            if isinstance(mine, dict) and isinstance(theirs, dict):
                for found in _fields(mine, theirs):
                    yield Difference(
                        where=f"{name}.{found.where}", one=found.one, other=found.other
                    )
            else:
                yield Difference(where=name, one=_brief(mine), other=_brief(theirs))


def _brief(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= _BRIEF else text[: _BRIEF - 1] + "…"


def _contents(path: str, one: bytes, other: bytes) -> Iterator[Difference]:
    if not path.endswith(".safetensors"):
        yield Difference(where=path, one=f"{len(one)} bytes", other=f"{len(other)} bytes")
        return
    mine, theirs = _tensors(path, one), _tensors(path, other)
    for name in sorted(mine.keys() | theirs.keys()):
        left, right = mine.get(name), theirs.get(name)
        if left != right:
            yield Difference(where=f"{path}: {name}", one=_shape(left), other=_shape(right))


def _shape(tensor: tuple[str, bytes] | None) -> str:
    return "missing" if tensor is None else tensor[0]


def _tensors(path: str, data: bytes) -> dict[str, tuple[str, bytes]]:
    """Return each tensor's type and shape in words, and its bytes."""
    try:
        end = _LENGTH_BYTES + int.from_bytes(data[:_LENGTH_BYTES], "little")
        header = json.loads(data[_LENGTH_BYTES:end])
        header.pop("__metadata__", None)
        return {
            name: (
                f"{entry['dtype']} {entry['shape']}",
                data[end + entry["data_offsets"][0] : end + entry["data_offsets"][1]],
            )
            for name, entry in header.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BrokenCheckpoint(f"is no safetensors file: {error}", path) from error
