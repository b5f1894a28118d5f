"""`--where KEY=VALUE`: which jobs a table is about."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from orchestrator.tables.jobs import TableJob
from orchestrator.tables.keys import Keys

_WRITTEN = re.compile(r"\s*([^\s=!<>]+)\s*(!=|<=|>=|=|<|>)\s*(.*?)\s*", re.DOTALL)
_ORDERS: Mapping[str, Callable[[float, float], bool]] = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}


class BadFilter(ValueError):
    """A filter that is none; the message says what one looks like."""


@dataclass(frozen=True, slots=True)
class Filter:
    """A condition on one key; with `=` and `!=` there may be several words."""

    key: str
    order: str
    words: tuple[str, ...]

    def matches(self, job: TableJob) -> bool:
        """Return whether the job is one of them; a job without the key equals nothing."""
        value = job.get(self.key)
        if self.order in ("=", "!="):
            return any(_equal(value, word) for word in self.words) == (self.order == "=")
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        return _ORDERS[self.order](value, float(self.words[0]))


def parse_filter(written: str, keys: Keys) -> Filter:
    """Return a filter as a person writes it. Raises `BadFilter`, `UnknownKey`."""
    match = _WRITTEN.fullmatch(written)
    if match is None:
        raise BadFilter(f"{written!r} is no filter: KEY=VALUE, KEY=A,B, KEY!=VALUE or KEY<=NUMBER")
    key, order, value = match.groups()
    words = tuple(word.strip() for word in value.split(","))
    if order not in ("=", "!=") and (len(words) > 1 or _number(words[0]) is None):
        raise BadFilter(f"{written!r}: {order} wants one number")
    return Filter(keys.key(key), order, words)


def _equal(value: object, word: str) -> bool:
    if value is None:
        return word in ("", "null")
    if isinstance(value, bool):
        return word == str(value).lower()
    if isinstance(value, int | float):
        return _number(word) == value  # 1e-3 is 0.001
    return str(value) == word


def _number(word: str) -> float | None:
    try:
        return float(word)
    except ValueError:
        return None
