"""What an unquoted YAML word means: the core schema of YAML 1.2, without its surprises.

PyYAML alone follows YAML 1.1, where `1e-4` is a string, `on` is true, `010` is eight and
`12:30:00` is 45000. Here a word is null, true or false, a whole number, a finite number, or text.
"""

from __future__ import annotations

import math
import re

Scalar = str | int | float | bool | None

_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_LEADING_ZERO = re.compile(r"[-+]?0[0-9]+")
_BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_LARGEST = 2**63 - 1


class BadScalar(ValueError):
    """An unquoted word is ambiguous or out of range; `fix` says how to write it."""

    def __init__(self, message: str, fix: str) -> None:
        self.fix = fix
        super().__init__(message)


def plain_value(text: str) -> Scalar:
    """Return the value of an unquoted word. Raises `BadScalar`."""
    if text in _WORDS:
        return _WORDS[text]
    if _LEADING_ZERO.fullmatch(text):
        bare = str(int(text)) if len(text) < 40 else "the number without leading zeros"
        raise BadScalar(
            f"`{text[:40]}` is octal to some readers and decimal to others",
            f'write {bare}, or quote it: "{text[:40]}"',
        )
    if _INTEGER.fullmatch(text):
        # The length is looked at first: int() of a megabyte of digits is slow or refused.
        return _bounded(int(text) if len(text) <= 20 else None)
    if _BASED.fullmatch(text):
        return _bounded(int(text, 0) if len(text) <= 30 else None)
    if _NUMBER.fullmatch(text):
        value = float(text)
        if math.isfinite(value):
            return value
        raise BadScalar("the number is too large", "write a number below 1e308")
    if _NOT_FINITE.fullmatch(text):
        raise BadScalar(f"`{text}` is not a finite number", "write a finite number")
    return text


def _bounded(value: int | None) -> int:
    if value is None or abs(value) > _LARGEST:
        raise BadScalar("the whole number has more than 64 bits", f"write at most {_LARGEST}")
    return value


def meant_number(text: str) -> int | float | None:
    """Return the number that a text would be without quotes or `_`, else None."""
    try:
        value = plain_value(text.strip().replace("_", ""))
    except BadScalar:
        return None
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
