"""`needs:` as it is written: which results must exist before the jobs of a block may begin.

    needs:
      - pretrain                                # every job of the block of that name
      - {block: pretrain, same: [seed]}         # of them, those with this cell's own seed
      - {cells: {method.name: full}}            # cells of this matrix, wherever they stand
      - {matrix: tokenizers}                    # every job of another matrix

`needs` of the outermost level holds for all cells, so only other matrices may stand there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobs.matrix.findings import FieldPath
from jobs.names import MATRIX_NAME, MATRIX_NAME_RULE, printable
from jobs.suggestions import did_you_mean
from jobs.yaml_strict import KeyPath, Node

if TYPE_CHECKING:
    from jobs.matrix.conditions import Condition

KEYS = ("block", "cells", "matrix", "same")
_SOURCES = ("block", "cells", "matrix")
_FORM = "write a block's name, or one of {block: NAME}, {cells: {train.lr: 1e-3}}, {matrix: NAME}"

Refuse = Callable[[KeyPath, str, str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One item of `needs`: exactly one of `block`, `cells` and `matrix` is given."""

    block: str | None = None
    cells: Condition | None = None
    matrix: str | None = None
    same: tuple[FieldPath, ...] = ()  # only cells that have these values too
    path: KeyPath = ()

    @property
    def label(self) -> str:
        """What to call it in a sentence."""
        if self.matrix is not None:
            return f"matrix {self.matrix}"
        return self.block if self.block is not None else "the cells that it names"


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedReader:
    """Reads `needs`, with what the reader of blocks knows of fields and conditions."""

    refuse: Refuse
    field: Callable[[str, KeyPath], FieldPath | None]
    condition: Callable[[Node, KeyPath], Condition | None]

    def read(self, node: Node, path: KeyPath, *, only_matrices: bool) -> tuple[Wanted, ...]:
        """Return the items of a list. What is wrong goes to `refuse`."""
        if not isinstance(node, list):
            self.refuse(path, f"must be a list, not {printable(node)}", f"write `- `; {_FORM}")
            return ()
        items = [self._item(item, (*path, index)) for index, item in enumerate(node)]
        found = [item for item in items if item is not None]
        if only_matrices:
            for item in found:
                if item.matrix is None:
                    message = "here, what is needed is another matrix"
                    fix = "write {matrix: NAME}, or move it into a block of `matrix:`"
                    self.refuse(item.path, message, fix)
        return tuple(found)

    def _item(self, node: Node, path: KeyPath) -> Wanted | None:
        if isinstance(node, str):
            return self._named("block", node, path, ())
        if not isinstance(node, dict):
            self.refuse(path, f"names nothing: {printable(node)}", _FORM)
            return None
        unknown = [key for key in node if key not in KEYS]
        for key in unknown:
            self.refuse((*path, key), f"unknown key {printable(key)}", did_you_mean(key, KEYS))
        if unknown:
            return None
        given = [key for key in _SOURCES if key in node]
        if len(given) != 1:
            self.refuse(path, f"must have exactly one of {', '.join(_SOURCES)}", _FORM)
            return None
        (kind,) = given
        same = self._same(node, path, kind)
        value, where = node[kind], (*path, kind)
        if kind != "cells":
            return self._named(kind, value, where, same)
        condition = self.condition(value, where)
        return Wanted(cells=condition, same=same, path=where) if condition is not None else None

    def _named(
        self, kind: str, value: Node, path: KeyPath, same: tuple[FieldPath, ...]
    ) -> Wanted | None:
        if not isinstance(value, str) or not MATRIX_NAME.fullmatch(value):
            self.refuse(path, f"{printable(value)} is no name", f"use {MATRIX_NAME_RULE}")
            return None
        if kind == "matrix":
            return Wanted(matrix=value, path=path)
        return Wanted(block=value, same=same, path=path)

    def _same(self, node: dict[str, Node], path: KeyPath, kind: str) -> tuple[FieldPath, ...]:
        given, where = node.get("same", []), (*path, "same")
        if not isinstance(given, list) or ("same" in node and not given):
            self.refuse(where, "must be a list of fields", "write e.g. [seed]")
            return ()
        if kind == "matrix" and given:
            self.refuse(where, "`same` compares cells of one matrix", "remove it")
            return ()
        fields = [
            self.field(item if isinstance(item, str) else str(item), (*where, index))
            for index, item in enumerate(given)
        ]
        return tuple(field for field in fields if field is not None)
