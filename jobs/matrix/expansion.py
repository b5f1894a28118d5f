"""From blocks to cells: merged plain data, each with the settings that made it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from jobs.errors import Problem
from jobs.matrix.blocks import Block
from jobs.matrix.conditions import Condition, equal
from jobs.matrix.derived import derive
from jobs.matrix.fields import SEED, default_of
from jobs.matrix.findings import FieldPath, Findings, Setting
from jobs.matrix.outline import Outline
from jobs.matrix.seeds import CEILING_OF_CELLS
from jobs.names import printable
from jobs.yaml_strict import Document, Node


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What the cells of a block have in common."""

    block: int
    base: tuple[Setting, ...]  # of all cells of the matrix
    varied: tuple[FieldPath, ...]  # fields of axes, in the order written
    constants: tuple[Setting, ...]  # of the block's `set`


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell. Equal sections of a matrix's cells are one object, so that 100,000 fit.

    Cells that differ only in their seed are siblings: they share `data`, the object itself, so
    that what does not depend on the seed is found once for all of them.
    """

    origin: Origin
    data: dict[str, Node]  # without the seed
    own: tuple[Setting, ...]  # in the order of application, after the origin's base
    seed: Setting

    @property
    def settings(self) -> tuple[Setting, ...]:
        """The settings in the order of application (base first)."""
        return (*self.origin.base, *self.own, self.seed)

    @property
    def block(self) -> int:
        """The number of its block."""
        return self.origin.block

    def value(self, field: FieldPath) -> object:
        """Return the value of a field, its default when nobody set it."""
        if field == SEED:
            return self.seed.value
        return _value_in(self.data, field)


def _value_in(data: Node, field: FieldPath) -> object:
    for part in field:
        if not isinstance(data, dict) or part not in data:
            return default_of(field)
        data = data[part]
    return data


def count_cells(outline: Outline, blocks: Sequence[Block]) -> int:
    """Return how many cells there are before conditions, without expanding anything."""
    return sum(block.count(len(outline.seeds)) for block in blocks)


def refuse_too_many(
    document: Document, outline: Outline, blocks: Sequence[Block], findings: Findings
) -> None:
    """Add a problem when there are more cells than `max_cells`."""
    cells = count_cells(outline, blocks)
    if cells > outline.max_cells:
        fix = "remove values"
        if cells <= CEILING_OF_CELLS:
            fix += f", or write `max_cells: {cells}` if you mean it"
        longest = max(blocks, key=lambda block: block.count(len(outline.seeds)))
        findings.add(
            document.problem(
                longest.path or ("seeds",),
                f"{cells:,} cells, the limit is {outline.max_cells:,}",
                fix,
                key=True,
            )
        )


def expand(
    document: Document, outline: Outline, blocks: Sequence[Block], findings: Findings
) -> list[Cell]:
    """Return the cells that the conditions leave, in the order of the file."""
    cells: list[Cell] = []
    for number, block in enumerate(blocks):
        cells += _expand_block(document, outline, number, block, findings)
    return cells


def _expand_block(
    document: Document, outline: Outline, number: int, block: Block, findings: Findings
) -> list[Cell]:
    every = list(_combinations(document, outline, number, block, findings))
    kept = every
    for condition in block.exclude:
        matched = [cell for cell in every if condition.holds(cell.value)]
        if not matched:
            findings.add(_matches_nothing(document, condition, every))
        gone = set(map(id, matched))
        kept = [cell for cell in kept if id(cell) not in gone]
    if block.when is not None:
        held = [cell for cell in kept if block.when.holds(cell.value)]
        if kept and not held:
            findings.add(_matches_nothing(document, block.when, kept))
        kept = held
    if block.sample is not None:
        kept = block.sample.drawn(kept)
    if every and not kept and not findings.problems:
        message = "no cell is left"
        findings.add(document.problem(block.path, message, "loosen `exclude` or `when`", key=True))
    return kept


def _combinations(
    document: Document, outline: Outline, number: int, block: Block, findings: Findings
) -> Iterator[Cell]:
    rows: list[tuple[Setting, ...]]
    rows = [tuple(row) for row in zip(*(a.values for a in block.rows), strict=True)] or [()]
    grids = itertools.product(*(axis.values for axis in block.grid))
    origin = Origin(
        block=number,
        base=outline.base,
        varied=tuple(axis.field for axis in (*block.grid, *block.rows)),
        constants=block.constants,
    )
    seeds = None if block.names_seed else _seeds(document, outline)
    sections = _Sections(outline, findings)
    for grid, row in itertools.product(grids, rows):
        given = (*block.constants, *grid, *row)
        own, data = sections.merged(given)
        for seed in seeds or (next(s for s in reversed(given) if s.field == SEED),):
            yield Cell(origin, data, own, seed)


def _seeds(document: Document, outline: Outline) -> list[Setting]:
    """Return the settings of `seeds`, which a block that names none is crossed with."""
    listed = isinstance(document.data, dict) and isinstance(document.data.get("seeds"), list)
    return [
        Setting(
            field=SEED,
            value=seed,
            document=document,
            path=("seeds", index) if listed else ("seeds",),
        )
        for index, seed in enumerate(outline.seeds)
    ]


def _depth(setting: Setting) -> int:
    return len(setting.field)


class _Sections:
    """The data of a block's cells; what is made by the same settings is one object."""

    def __init__(self, outline: Outline, findings: Findings) -> None:
        self._base = merged({}, outline.base)
        self._derived, self._findings = outline.derived, findings
        self._everywhere, self._profile = outline.base, outline.profile
        self._whole: dict[tuple[int, ...], tuple[tuple[Setting, ...], dict[str, Node]]] = {}
        self._made: dict[tuple[int, ...], dict[str, Node]] = {}

    def merged(self, given: Sequence[Setting]) -> tuple[tuple[Setting, ...], dict[str, Node]]:
        """Return the settings without the seed in the order of application, and their data."""
        own = tuple(setting for setting in given if setting.field != SEED)
        key = tuple(map(id, own))
        if key not in self._whole:
            # A whole section before the keys inside it, whatever the order in the file.
            own = (*sorted(own, key=_depth), *self._profile)
            self._whole[key] = self._with_derived(own, self._data(own))
        return self._whole[key]

    def _with_derived(
        self, own: tuple[Setting, ...], data: dict[str, Node]
    ) -> tuple[tuple[Setting, ...], dict[str, Node]]:
        if not self._derived:
            return own, data
        given = (*self._everywhere, *own)
        found = derive(self._derived, given, lambda field: _value_in(data, field), self._findings)
        return (*own, *found), merged(data, found)

    def _data(self, own: Sequence[Setting]) -> dict[str, Node]:
        data = dict(self._base)
        mine: dict[str, list[Setting]] = {}
        for setting in own:
            mine.setdefault(setting.field[0], []).append(setting)
        for name, settings in mine.items():
            key = tuple(map(id, settings))
            made = self._made.get(key)
            if made is None:
                section = {name: data[name]} if name in data else {}
                made = self._made[key] = merged(section, settings)
            data.update(made)
        return data


def merged(base: dict[str, Node], settings: Sequence[Setting]) -> dict[str, Node]:
    """Return `base` with each setting's value at its field; `base` itself is not changed."""
    data = dict(base)
    for setting in settings:
        if not setting.field:
            continue
        node = data
        for part in setting.field[:-1]:
            below = node.get(part)
            if below is not None and not isinstance(below, dict):
                break  # not a mapping: the schema will say so
            node[part] = dict(below) if below else {}
            node = node[part]  # type: ignore[assignment]
        else:
            node[setting.field[-1]] = setting.value
    return data


def _matches_nothing(document: Document, condition: Condition, cells: Sequence[Cell]) -> Problem:
    """Name the first field of the condition that no cell satisfies, and the values there are."""
    path, message = condition.path, "matches no cell"
    fix = "correct the values, or remove it"
    for field, allowed in condition.allowed:
        if not any(equal(cell.value(field), value) for cell in cells for value in allowed):
            path = (*condition.path, ".".join(field))
            values = dict.fromkeys(printable(cell.value(field)) for cell in cells)
            fix = f"the cells have {', '.join(itertools.islice(values, 8))}"
            break
    return document.problem(path, message, fix)
