"""Finding the key that a person means: `lr` for `train.lr`, where only one key ends so."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from orchestrator.tables.jobs import TableJob


class UnknownKey(LookupError):
    """No key, or more than one, is meant; the message names what is near."""


class Keys:
    """All keys of some jobs, and the ways to write them."""

    def __init__(self, jobs: Iterable[TableJob]) -> None:
        self._all: dict[str, None] = {}
        self._metrics: dict[str, None] = {}
        for job in jobs:
            self._all.update(dict.fromkeys(job.keys()))
            self._metrics.update(dict.fromkeys(job.metrics))

    @property
    def metrics(self) -> list[str]:
        """The keys that are metrics, in the order of first appearance."""
        return list(self._metrics)

    def key(self, word: str) -> str:
        """Return the one key that is `word` or ends with it after a dot. Raises `UnknownKey`."""
        return self._one(word, list(self._all))

    def measured(self, word: str) -> list[str]:
        """Return the keys of numbers that are meant; `*` in a word stands for any characters.

        Settings and facts that are numbers (`attempts`) may be averaged like metrics.
        Raises `UnknownKey`.
        """
        if "*" not in word:
            return [self._one(word, [*self._metrics] if self._is_metric(word) else [*self._all])]
        found = [key for key in self._metrics if fnmatchcase(key, word)]
        if not found:
            raise UnknownKey(f"no metric is like {word!r}{_choices(word, self.metrics)}")
        return found

    def _is_metric(self, word: str) -> bool:
        return any(key == word or key.endswith(f".{word}") for key in self._metrics)

    def _one(self, word: str, keys: Sequence[str]) -> str:
        if word in keys:
            return word
        found = [key for key in keys if key.endswith(f".{word}")]
        if len(found) == 1:
            return found[0]
        if found:
            raise UnknownKey(f"{word!r} may be any of {', '.join(found[:6])}: write one of them")
        raise UnknownKey(f"no job has a key {word!r}{_choices(word, keys)}")


def _choices(word: str, keys: Sequence[str]) -> str:
    if not keys:
        return ": no job has a result yet"
    tails = {key.rpartition(".")[2]: key for key in keys}
    near = [tails[tail] for tail in difflib.get_close_matches(word.rpartition(".")[2], tails, n=4)]
    near = near or difflib.get_close_matches(word, keys, n=4)
    return f"; near: {', '.join(near)}" if near else f"; some of them: {', '.join(keys[:8])}"


def short_titles(keys: Sequence[str]) -> list[str]:
    """Return the last part of each key where that is unique and says something, else all of it."""
    tails = [key.rpartition(".")[2] for key in keys]
    return [
        tail if tails.count(tail) == 1 and tail != "name" else key
        for key, tail in zip(keys, tails, strict=True)
    ]
