"""Conditions on a cell's fields, as `when`, `exclude`, `needs` and `derive` have them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from jobs.matrix.fields import RESERVED, fix_for, unknown_part
from jobs.matrix.findings import FieldPath, Findings
from jobs.names import printable
from jobs.yaml_strict import Document, KeyPath, Node


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """Holds for a cell whose every named field has one of the listed values."""

    allowed: tuple[tuple[FieldPath, tuple[Node, ...]], ...]
    path: KeyPath

    def holds(self, value_of: Callable[[FieldPath], object]) -> bool:
        """Return whether it holds for the cell in which `value_of` says what a field has."""
        return all(
            any(equal(value_of(field), value) for value in allowed)
            for field, allowed in self.allowed
        )


def equal(one: object, other: object) -> bool:
    """Return whether two values are one in YAML, where true is not 1."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)


class ConditionReader:
    """Reads conditions, and the dotted keys that they name."""

    def __init__(self, document: Document, findings: Findings) -> None:
        self._document = document
        self._findings = findings

    def condition(self, node: Node, path: KeyPath) -> Condition | None:
        """Return a condition, None where it is wrong."""
        if not isinstance(node, dict) or not node:
            fix = "write e.g. `{train.lr: 1e-3, seed: [1, 2]}`"
            self._refuse(path, "must be a mapping", fix)
            return None
        allowed = []
        for key, values in node.items():
            field = self.field(key, (*path, key))
            if values == []:
                self._refuse((*path, key), "is an empty list", "write the values that it may have")
            elif field is not None:
                allowed.append((field, tuple(values) if isinstance(values, list) else (values,)))
        return Condition(allowed=tuple(allowed), path=path)

    def field(self, key: str, path: KeyPath) -> FieldPath | None:
        """Return the field that a dotted key names, None where there is no such field."""
        field = tuple(key.split("."))
        if field == ("seeds",):
            self._refuse(path, "`seeds` is no field of a cell", "write `seed`", key=True)
            return None
        if unknown_part(field) is None and field[:2] not in RESERVED:
            return field
        self._refuse(path, f"{printable(key)} names no field", fix_for(field), key=True)
        return None

    def _refuse(self, path: KeyPath, message: str, fix: str, *, key: bool = False) -> None:
        self._findings.add(self._document.problem(path, message, fix, key=key))
