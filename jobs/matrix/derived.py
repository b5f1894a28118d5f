"""`derive:` fields that follow from other fields of the same cell, by a formula or a table."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from jobs.errors import Problem
from jobs.matrix.conditions import Condition, ConditionReader, equal
from jobs.matrix.fields import SEED
from jobs.matrix.findings import FieldPath, Findings, Setting
from jobs.matrix.formulas import BadFormula, Formula, read_formula
from jobs.names import printable
from jobs.suggestions import did_you_mean
from jobs.yaml_scalars import BadScalar, plain_value
from jobs.yaml_strict import Document, KeyPath, Node

KEYS = ("formula", "by", "table", "otherwise", "when")
EXAMPLES = "`2 * method.rank`, or `{by: method.rank, table: {4: 64, 8: 32}}`"

ValueOf = Callable[[FieldPath], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Derived:
    """One field, and what its value is in a cell that does not give it itself."""

    field: FieldPath
    document: Document
    path: KeyPath
    formula: Formula | None = None
    by: FieldPath = ()
    table: tuple[tuple[str, Node], ...] = ()  # by the keys as written
    otherwise: Node = None
    falls_back: bool = False  # there is an `otherwise`
    when: Condition | None = None

    def setting(self, value_of: ValueOf) -> Setting | None:
        """Return the cell's setting, None where `when` does not hold. Raises `BadFormula`."""
        if self.when is not None and not self.when.holds(value_of):
            return None
        path, value = self.path, self._value(value_of)
        return Setting(field=self.field, value=value, document=self.document, path=path)

    def _value(self, value_of: ValueOf) -> Node:
        if self.formula is not None:
            return self.formula.value(value_of)  # type: ignore[return-value]
        found = value_of(self.by)
        for key, value in self.table:
            if _is_called(found, key):
                return value
        if self.falls_back:
            return self.otherwise
        name, known = ".".join(self.by), ", ".join(key for key, _ in self.table)
        raise BadFormula(
            f"the table has nothing for `{name}` {printable(found)}, only for {known[:80]}",
            "add it, or `otherwise:`, or say with `when` for which cells the table is",
        )

    def problem(self, error: BadFormula) -> Problem:
        """Return an error as one of this place in the file."""
        return self.document.problem(self.path, str(error), error.fix)


def read_derived(document: Document, node: Node, findings: Findings) -> tuple[Derived, ...]:
    """Return the items of `derive:` in the order of the file, which is that of application."""
    if not isinstance(node, dict) or not node:
        message = f"must be a mapping, not {printable(node)}"
        findings.add(document.problem(("derive",), message, f"write a field and {EXAMPLES}"))
        return ()
    reader = _Reader(document, findings)
    items: list[Derived | None] = []
    for key, value in node.items():
        if isinstance(value, list):  # the first one that holds counts
            places = range(len(value))
            items += [reader.item(key, value[n], ("derive", key, n)) for n in places]
        else:
            items.append(reader.item(key, value, ("derive", key)))
    return tuple(item for item in items if item is not None)


def derive(
    items: Collection[Derived], given: Collection[Setting], value_of: ValueOf, findings: Findings
) -> list[Setting]:
    """Return the settings of one cell; a later item sees what earlier ones gave.

    `given`: what the cell has by itself, which stays.
    """
    found: dict[FieldPath, Setting] = {}

    def value(field: FieldPath) -> object:
        return found[field].value if field in found else value_of(field)

    for item in items:
        if item.field in found or any(_gives(setting, item.field) for setting in given):
            continue
        try:
            setting = item.setting(value)
        except BadFormula as error:
            findings.add(item.problem(error))
            continue
        if setting is not None:
            found[item.field] = setting
    return list(found.values())


def _gives(setting: Setting, field: FieldPath) -> bool:
    """Return whether a setting, of the field or of a section around it, has a value for it."""
    depth = len(setting.field)
    return bool(depth) and setting.field == field[:depth] and _is_in(setting.value, field[depth:])


def _is_in(node: Node, path: KeyPath) -> bool:
    for part in path:
        if not isinstance(node, dict) or part not in node:
            return False
        node = node[str(part)]
    return True


def _is_called(value: object, key: str) -> bool:
    """Return whether a table's key means a value: `8`, `1e-3`, `true` or a text as it is."""
    if isinstance(value, str):
        return value == key
    try:
        meant = plain_value(key)
    except BadScalar:
        return False
    return equal(meant, value)


class _Reader:
    def __init__(self, document: Document, findings: Findings) -> None:
        self._document = document
        self._findings = findings
        self._words = ConditionReader(document, findings)

    def item(self, key: str, node: Node, path: KeyPath) -> Derived | None:
        """Return one item, None where it is wrong."""
        field = self._field(key, ("derive", key))
        if field is None or self._is_shared(field, path):
            return None
        if not isinstance(node, dict):
            return self._formula(field, node, path, None, path)
        for word in node:
            if word not in KEYS:
                self._refuse(
                    (*path, word),
                    f"unknown key {printable(word)}",
                    did_you_mean(word, KEYS),
                    key=True,
                )
                return None
        when = None
        if "when" in node:
            when = self._words.condition(node["when"], (*path, "when"))
            if when is None:
                return None
        if "formula" in node and not {"by", "table", "otherwise"} & node.keys():
            return self._formula(field, node["formula"], (*path, "formula"), when, path)
        return self._table(field, node, path, when)

    def _formula(
        self, field: FieldPath, node: Node, place: KeyPath, when: Condition | None, path: KeyPath
    ) -> Derived | None:
        if not isinstance(node, str):
            fix = f"write {EXAMPLES}; a fixed value belongs below `defaults:`"
            self._refuse(place, f"must be a formula, not {printable(node)}", fix)
            return None
        try:
            formula = read_formula(node)
        except BadFormula as error:
            self._refuse(place, str(error), error.fix)
            return None
        for used in formula.fields:
            if self._needed(".".join(used), place, key=False) is None:
                return None
        return Derived(field=field, document=self._document, path=path, formula=formula, when=when)

    def _table(
        self, field: FieldPath, node: dict[str, Node], path: KeyPath, when: Condition | None
    ) -> Derived | None:
        by, table = node.get("by"), node.get("table")
        if "formula" in node or not isinstance(by, str) or not isinstance(table, dict) or not table:
            self._refuse(path, "is neither a formula nor a table", f"write {EXAMPLES}")
            return None
        used = self._needed(by, (*path, "by"), key=False)
        if used is None:
            return None
        return Derived(
            field=field,
            document=self._document,
            path=path,
            by=used,
            table=tuple(table.items()),
            otherwise=node.get("otherwise"),
            falls_back="otherwise" in node,
            when=when,
        )

    def _field(self, key: str, path: KeyPath) -> FieldPath | None:
        field = self._needed(key, path, key=True)
        if field is not None and len(field) == 1 and field[0] in self._sections():
            self._refuse(
                path, f"`{key}` is a whole section", f"write a key such as `{key}.NAME`", key=True
            )
            return None
        return field

    def _sections(self) -> Collection[str]:
        defaults = self._document.data
        found = defaults.get("defaults") if isinstance(defaults, dict) else None
        return found.keys() if isinstance(found, dict) else ()

    def _needed(self, name: str, path: KeyPath, *, key: bool) -> FieldPath | None:
        field = tuple(name.split("."))
        if field == SEED:
            message = "`seed` is what repetitions of a cell differ in: nothing follows from it"
            self._refuse(path, message, "name another field", key=key)
            return None
        return self._words.field(name, path)

    def _is_shared(self, field: FieldPath, path: KeyPath) -> bool:
        """Refuse a field that all cells are given: which of the two is meant?"""
        for where in (("defaults", *field), field):
            if _is_in(self._document.data, where):
                place = self._document.place(where, key=True)
                message = f"`{'.'.join(field)}` is given to all cells as well, on line {place.line}"
                self._refuse(path, message, "keep one", key=True)
                return True
        return False

    def _refuse(self, path: KeyPath, message: str, fix: str, *, key: bool = False) -> None:
        self._findings.add(self._document.problem(path, message, fix, key=key))
