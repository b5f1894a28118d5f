"""Readable names of cells, e.g. `quickstart/lr=0.001-seed=1`; unique within a matrix."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from jobs.matrix.aliases import NameTemplate
from jobs.matrix.expansion import Cell
from jobs.matrix.fields import RUN_SECTIONS, SEED
from jobs.matrix.findings import FieldPath
from jobs.names import MAX_CELL_NAME, slug
from jobs.yaml_strict import Node


def cell_names(
    cells: Sequence[Cell], ids: Sequence[str], *, template: NameTemplate | None = None
) -> list[str]:
    """Return each cell's name without the matrix's; equal only where the ids are.

    A name has the fields of the axes, and the constants in which the experiments of blocks
    differ; a field is called by its last word, or by as many words as make it unambiguous. A
    `template` says it instead. What is equal or too long gets the job's id at its end.
    """
    if template is not None:
        names = [_filled(template, cell) for cell in cells]
    else:
        fields = _naming_fields(cells)
        names = list(_names(cells, fields, _Words(_short_words(fields))))
    owner: dict[str, str] = {}  # lower case: some filesystems and eyes do not tell case
    clashing = set()
    for name, job in zip(names, ids, strict=True):
        if owner.setdefault(name.lower(), job) != job:
            clashing.add(name.lower())
    return [
        f"{name[: MAX_CELL_NAME - 9]}-{job[:8]}"
        if name.lower() in clashing or len(name) > MAX_CELL_NAME
        else name
        for name, job in zip(names, ids, strict=True)
    ]


def _filled(template: NameTemplate, cell: Cell) -> str:
    def word(field: FieldPath) -> str:
        value = cell.value(field)
        return "" if value is None else _in_short(value)

    # Fields that a cell does not have leave nothing between their dashes.
    return re.sub("-{2,}", "-", slug(template.text(word))).strip("-") or "job"


def _naming_fields(cells: Sequence[Cell]) -> list[FieldPath]:
    origins = {id(cell.origin): cell.origin for cell in cells}.values()  # in the order of blocks
    fields: dict[FieldPath, None] = {}
    for origin in origins:
        fields.update(dict.fromkeys(origin.varied))
    constants = dict.fromkeys(s.field for origin in origins for s in origin.constants)
    for field in constants:
        if field in fields or field[0] in RUN_SECTIONS:
            continue
        if len({repr(cell.value(field)) for cell in cells}) > 1:
            fields[field] = None
    fields.pop(SEED, None)
    return [*fields, SEED]


def _short_words(fields: Sequence[FieldPath]) -> dict[FieldPath, str]:
    """Return for each field its shortest ending that no other field has.

    `method.name` and `model.path` are the method and the model: that word says more.
    """
    telling = {f: f[:-1] if len(f) > 1 and f[-1] in ("name", "path") else f for f in fields}
    words = {}
    for field, told in telling.items():
        for length in range(1, len(told) + 1):
            word = told[-length:]
            if sum(other[-length:] == word for other in telling.values()) == 1:
                break
        words[field] = slug(".".join(word))
    # Two fields may still become one word by replaced characters.
    repeated = {word for word, count in Counter(words.values()).items() if count > 1}
    return {f: slug(".".join(f)) if word in repeated else word for f, word in words.items()}


class _Words:
    """How a field with a value is written; each value of an axis is worded once."""

    def __init__(self, words: dict[FieldPath, str]) -> None:
        self._words = words
        self._known: dict[tuple[FieldPath, int], tuple[object, str]] = {}

    def word(self, field: FieldPath, value: object) -> str:
        """Return e.g. `lr=0.001`."""
        key = (field, id(value))
        known = self._known.get(key)
        if known is None:
            # The value is kept, so that its id stays its own.
            known = self._known[key] = (value, f"{self._words[field]}={_in_short(value)}")
        return known[1]


def _names(cells: Sequence[Cell], fields: Sequence[FieldPath], words: _Words) -> Iterator[str]:
    """Yield the cells' names; those of siblings differ in the last word, the seed's."""
    before: Cell | None = None
    common = ""
    for cell in cells:
        if before is None or before.data is not cell.data:
            values = ((field, cell.value(field)) for field in fields if field != SEED)
            parts = [words.word(field, value) for field, value in values if value is not None]
            common = "-".join([*parts, ""]).lstrip("._=+-")
            before = cell
        yield common + words.word(SEED, cell.seed.value)


def _in_short(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return slug(_number(value))
    if isinstance(value, str):
        return slug(value.rstrip("/").rsplit("/", 1)[-1].rsplit(":", 1)[-1])
    if isinstance(value, list):
        return slug("+".join(_in_short(item) for item in value))
    if isinstance(value, dict):
        return _of_mapping(value)
    return slug(str(value))


def _of_mapping(value: dict[str, Node]) -> str:
    """Return what tells a whole section apart: its name, or else its plain values."""
    for key in ("name", "path", "architecture"):
        if isinstance(value.get(key), str):
            return _in_short(value[key])
    plain = (item for item in value.values() if not isinstance(item, dict | list))
    return slug("_".join(_in_short(item) for item in plain))


def _number(value: float) -> str:
    """Return `0.001`, `1e-5`, `3.0`: the shortest text that reads back as the same number."""
    mantissa, exponent, power = repr(value).partition("e")
    return f"{mantissa}e{int(power)}" if exponent else mantissa
