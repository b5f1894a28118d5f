"""Formulas over the fields of a cell, such as `2 * method.rank`.

Python's grammar, read by its own parser, of which nothing but numbers, dotted keys, arithmetic and
a few functions is understood; nothing is ever run. There is no power and no text arithmetic, so a
formula can neither grow nor take long.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable
from dataclasses import dataclass

from jobs.matrix.findings import FieldPath
from jobs.names import printable

MAX_LENGTH = 200  # characters
MAX_DEPTH = 20
LARGEST = 2**63 - 1

Number = int | float
_BINARY: dict[type[ast.operator], Callable[[Number, Number], Number]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_FUNCTIONS: dict[str, Callable[..., Number]] = {
    "abs": abs,
    "ceil": math.ceil,
    "floor": math.floor,
    "max": max,
    "min": min,
    "round": round,
    "sqrt": math.sqrt,
}
_ONE = frozenset({"abs", "ceil", "floor", "round", "sqrt"})  # take one value
GRAMMAR = f"numbers, keys such as method.rank, + - * / // % ( ), {', '.join(_FUNCTIONS)}"


class BadFormula(ValueError):
    """A text that is no formula, or one that has no value for a cell; `fix` says what helps."""

    def __init__(self, message: str, fix: str = f"use {GRAMMAR}") -> None:
        self.fix = fix
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Formula:
    """A formula that has been read."""

    text: str
    tree: ast.expr
    fields: tuple[FieldPath, ...]  # that it needs, in the order written

    def value(self, value_of: Callable[[FieldPath], object]) -> object:
        """Return its value for the cell in which `value_of` says what a field has.

        A formula that is one key alone may have any plain value. Raises `BadFormula`.
        """
        if (field := _field(self.tree)) is not None:
            return _known(field, value_of)
        try:
            found = _value(self.tree, value_of)
        except ZeroDivisionError:
            raise BadFormula(
                f"{printable(self.text)} divides by zero in a cell", "exclude the cell"
            ) from None
        except (OverflowError, ValueError) as error:
            if isinstance(error, BadFormula):
                raise
            raise BadFormula(f"{printable(self.text)} has no value in a cell: {error}") from None
        if not math.isfinite(found) or abs(found) > LARGEST:
            raise BadFormula(f"{printable(self.text)} is too large in a cell", "make it smaller")
        return found


def read_formula(text: str) -> Formula:
    """Return the formula that a text is. Raises `BadFormula`."""
    if len(text) > MAX_LENGTH:
        raise BadFormula(f"is longer than {MAX_LENGTH} characters", "use a table, or shorten it")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise BadFormula(f"{printable(text)} is no formula") from None
    fields: dict[FieldPath, None] = {}
    _check(tree, fields, depth=1)
    return Formula(text=text.strip(), tree=tree, fields=tuple(fields))


def _check(node: ast.expr, fields: dict[FieldPath, None], *, depth: int) -> None:
    """Refuse what the grammar does not have; note the fields."""
    if depth > MAX_DEPTH:
        raise BadFormula(f"is nested deeper than {MAX_DEPTH} levels", "make it simpler")
    match node:
        case ast.Constant(value=bool()):
            raise BadFormula(f"{printable(ast.unparse(node))} is no part of a formula")
        case ast.Constant(value=int() | float()):
            below: list[ast.expr] = []
        case ast.Name() | ast.Attribute():
            field = _field(node)
            if field is None:
                raise BadFormula(f"{printable(ast.unparse(node))} is no part of a formula")
            fields[field] = None
            below = []
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            below = [left, right]
        case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
            below = [operand]
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _FUNCTIONS:
            if not args or (name in _ONE and len(args) > 1):
                raise BadFormula(f"{name}() takes {'one value' if name in _ONE else 'values'}")
            below = args
        case _:
            raise BadFormula(f"{printable(ast.unparse(node))} is no part of a formula")
    for one in below:
        _check(one, fields, depth=depth + 1)


def _field(node: ast.expr) -> FieldPath | None:
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return (node.id, *reversed(parts)) if isinstance(node, ast.Name) else None


def _known(field: FieldPath, value_of: Callable[[FieldPath], object]) -> object:
    value = value_of(field)
    if value is None or isinstance(value, dict | list):
        name = ".".join(field)
        what = "no value" if value is None else "no single value"
        fix = f"give `{name}`, or say with `when` for which cells this is"
        raise BadFormula(f"`{name}` has {what} in a cell", fix)
    return value


def _number(field: FieldPath, value_of: Callable[[FieldPath], object]) -> Number:
    value = _known(field, value_of)
    if isinstance(value, bool) or not isinstance(value, int | float):
        name = ".".join(field)
        raise BadFormula(f"`{name}` is {printable(value)} in a cell, no number", "use a table")
    return value


def _value(node: ast.expr, value_of: Callable[[FieldPath], object]) -> Number:
    match node:
        case ast.Constant(value=int() | float() as value):
            return value
        case ast.BinOp(left=left, op=op, right=right):
            return _BINARY[type(op)](_value(left, value_of), _value(right, value_of))
        case ast.UnaryOp(op=op, operand=operand):
            value = _value(operand, value_of)
            return -value if isinstance(op, ast.USub) else value
        case ast.Call(func=ast.Name(id=name), args=args):
            return _FUNCTIONS[name](*(_value(one, value_of) for one in args))
    field = _field(node)
    assert field is not None  # `_check` has seen to it
    return _number(field, value_of)
