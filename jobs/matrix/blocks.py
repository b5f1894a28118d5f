"""The blocks of `matrix:`: axes, constants and conditions, before anything is expanded."""

from __future__ import annotations

import math
from dataclasses import dataclass

from jobs.errors import Problem
from jobs.matrix.conditions import Condition, ConditionReader
from jobs.matrix.fields import SEED
from jobs.matrix.findings import FieldPath, Findings, Setting
from jobs.matrix.sampling import Sample, read_sample
from jobs.matrix.wanted import Wanted, WantedReader
from jobs.names import MATRIX_NAME, MATRIX_NAME_RULE, printable
from jobs.suggestions import did_you_mean
from jobs.yaml_strict import Document, KeyPath, Node

KEYS = ("name", "grid", "zip", "set", "exclude", "when", "sample", "needs")


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """A field and the values that it takes."""

    field: FieldPath
    values: tuple[Setting, ...]
    path: KeyPath


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One block: the product of `grid` and of the rows of `zip`, each with `set` applied.

    A block that names `seed` itself is not crossed with the matrix's `seeds`.
    """

    grid: tuple[Axis, ...] = ()
    rows: tuple[Axis, ...] = ()  # zip: all of one length
    constants: tuple[Setting, ...] = ()
    exclude: tuple[Condition, ...] = ()
    when: Condition | None = None
    sample: Sample | None = None
    name: str | None = None  # by which `needs` of other blocks mean this one
    needs: tuple[Wanted, ...] = ()
    path: KeyPath = ()

    @property
    def names_seed(self) -> bool:
        """Whether the block brings its own seeds."""
        fields = [axis.field for axis in (*self.grid, *self.rows)]
        return SEED in fields or any(setting.field == SEED for setting in self.constants)

    def count(self, seeds: int) -> int:
        """Return how many cells the block has before conditions, without expanding it."""
        rows = len(self.rows[0].values) if self.rows else 1
        return (
            math.prod(len(a.values) for a in self.grid) * rows * (1 if self.names_seed else seeds)
        )


def read_blocks(document: Document, node: Node, findings: Findings) -> tuple[Block, ...]:
    """Return the blocks; a mapping is one block's grid, nothing is one cell (times seeds)."""
    if node is None and ("matrix",) not in document.keys:
        return (Block(),)
    reader = _Reader(document, findings)
    if isinstance(node, dict) and node:
        words = [key for key in node if key in KEYS]
        if not words:
            return (Block(grid=reader.axes(node, ("matrix",)), path=("matrix",)),)
        fix = "write `matrix:` as a list: put `- ` before the first key of each block"
        reader.refuse(("matrix", words[0]), f"`{words[0]}` belongs into a block", fix, key=True)
        return ()
    if isinstance(node, list) and node:
        return tuple(reader.block(item, ("matrix", index)) for index, item in enumerate(node))
    empty = node is None or node in ({}, [])
    message = "is empty" if empty else f"must be a mapping or a list, not {printable(node)}"
    reader.refuse(
        ("matrix",), message, "write axes such as `train.lr: [1e-3, 3e-3]`, or leave it out"
    )
    return ()


def read_shared_needs(document: Document, node: Node, findings: Findings) -> tuple[Wanted, ...]:
    """Return the `needs` of the outermost level."""
    return _Reader(document, findings).needs(node, ("needs",), only_matrices=True)


class _Reader:
    def __init__(self, document: Document, findings: Findings) -> None:
        self._document = document
        self._findings = findings
        self._words = ConditionReader(document, findings)

    def refuse(self, path: KeyPath, message: str, fix: str, *, key: bool = False) -> None:
        """Add a problem."""
        self._findings.add(self._problem(path, message, fix, key=key))

    def _problem(self, path: KeyPath, message: str, fix: str, *, key: bool) -> Problem:
        return self._document.problem(path, message, fix, key=key)

    def block(self, node: Node, path: KeyPath) -> Block:
        """Return one item of the list."""
        if not isinstance(node, dict) or not node:
            self.refuse(path, "must be a block", f"write keys: {', '.join(KEYS)}")
            return Block(path=path)
        for key in node:
            if key not in KEYS:
                fix = did_you_mean(key, KEYS)
                if "." in key:
                    fix = f"put `{key}` below `grid:`"
                self.refuse((*path, key), f"unknown key {printable(key)}", fix, key=True)
        block = Block(
            grid=self.axes(node.get("grid", {}), (*path, "grid")),
            rows=self._rows(node.get("zip", {}), (*path, "zip")),
            constants=self._constants(node.get("set", {}), (*path, "set")),
            exclude=self._conditions(node.get("exclude", []), (*path, "exclude")),
            when=self._words.condition(node["when"], (*path, "when")) if "when" in node else None,
            sample=self._sample(node, path),
            name=self._name(node, path),
            needs=self.needs(node.get("needs", []), (*path, "needs"), only_matrices=False),
            path=path,
        )
        self._refuse_repeated(block)
        return block

    def needs(self, node: Node, path: KeyPath, *, only_matrices: bool) -> tuple[Wanted, ...]:
        """Return the items of a `needs:`."""
        words = self._words
        reader = WantedReader(refuse=self.refuse, field=words.field, condition=words.condition)
        return reader.read(node, path, only_matrices=only_matrices)

    def _sample(self, node: dict[str, Node], path: KeyPath) -> Sample | None:
        if "sample" not in node:
            return None
        return read_sample(self._document, node["sample"], (*path, "sample"), self._findings)

    def _name(self, node: dict[str, Node], path: KeyPath) -> str | None:
        name = node.get("name")
        if isinstance(name, str) and MATRIX_NAME.fullmatch(name):
            return name
        if "name" in node:
            self.refuse((*path, "name"), f"{printable(name)} is no name", f"use {MATRIX_NAME_RULE}")
        return None

    def axes(self, node: Node, path: KeyPath) -> tuple[Axis, ...]:
        """Return the axes of a mapping from dotted keys to lists."""
        if not isinstance(node, dict):
            self.refuse(path, "must be a mapping", "write axes such as `train.lr: [1e-3, 3e-3]`")
            return ()
        found = []
        for key, values in node.items():
            where = (*path, key)
            field = self._words.field(key, where)
            if not isinstance(values, list):
                fix = f"write a list: [{printable(values).strip('`')}]"
                if isinstance(values, dict):
                    fix = f"write dotted keys: `{key}.NAME: [...]`"
                self.refuse(where, f"must be a list, not {printable(values)}", fix)
            elif not values:
                self.refuse(
                    where, "is an empty list", "write at least one value, or remove the axis"
                )
            elif field is not None:
                settings = [
                    Setting(field=field, value=value, document=self._document, path=(*where, index))
                    for index, value in enumerate(values)
                ]
                found.append(Axis(field=field, values=tuple(settings), path=where))
        return tuple(found)

    def _rows(self, node: Node, path: KeyPath) -> tuple[Axis, ...]:
        axes = self.axes(node, path)
        for axis in axes[1:]:
            if len(axis.values) != len(axes[0].values):
                first = ".".join(axes[0].field)
                message = f"has {len(axis.values)} values, `{first}` has {len(axes[0].values)}"
                self.refuse(axis.path, message, "give all lists of a `zip` one length")
                return ()
        return axes

    def _constants(self, node: Node, path: KeyPath) -> tuple[Setting, ...]:
        if not isinstance(node, dict):
            self.refuse(path, "must be a mapping", "write e.g. `train.steps: 100`")
            return ()
        settings = []
        for key, value in node.items():
            field = self._words.field(key, (*path, key))
            if field is not None:
                settings.append(
                    Setting(field=field, value=value, document=self._document, path=(*path, key))
                )
        return tuple(settings)

    def _conditions(self, node: Node, path: KeyPath) -> tuple[Condition, ...]:
        if not isinstance(node, list) or node == []:
            if node != [] or path in self._document.values:
                self.refuse(path, "must be a list of conditions", "write `- {train.lr: 1e-3}`")
            return ()
        found = [self._words.condition(item, (*path, index)) for index, item in enumerate(node)]
        return tuple(condition for condition in found if condition is not None)

    def _refuse_repeated(self, block: Block) -> None:
        places: dict[FieldPath, KeyPath] = {}
        named = [(axis.field, axis.path) for axis in (*block.grid, *block.rows)]
        named += [(setting.field, setting.path) for setting in block.constants]
        for field, path in named:
            if field in places:
                line = self._document.place(places[field], key=True).line
                message = f"`{'.'.join(field)}` is given twice in this block, first on line {line}"
                self.refuse(path, message, "keep one", key=True)
            places.setdefault(field, path)
