"""The words of a command: placeholders, and what stands for them. Pure.

`{name}` is a param, an input or one of `GIVEN`; `{{` and `}}` are braces. A word stays one word
whatever stands in it: no shell sees it.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterator, Mapping

from jobs.spec import CommandSpec

# What an attempt adds to params and inputs.
GIVEN = {
    "seed": "the job's seed",
    "rank": "number of this process, from 0",
    "world_size": "number of processes",
    "params": "JSON file with params, inputs and seed",
    "code_dir": "the snapshot of `command.code`",
    "checkpoint_dir": "directory of this attempt for what it saves",
    "resume_dir": "directory with what an earlier attempt saved; empty when there is none",
    "attempt_dir": "directory of this attempt",
}
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


class BadWord(ValueError):
    """A word of argv has a placeholder that means nothing."""


def placeholders(word: str) -> Iterator[str]:
    """Yield the names in braces. Raises `BadWord` for anything else between braces."""
    try:
        parts = list(string.Formatter().parse(word))
    except ValueError as error:
        raise BadWord(f"{error}; write {{{{ and }}}} for braces") from error
    for _, name, form, conversion in parts:
        if name is None:
            continue
        if form or conversion or not NAME.fullmatch(name):
            raise BadWord("a placeholder is a name in braces; write {{ and }} for braces")
        yield name


def known_names(command: CommandSpec) -> list[str]:
    """Return what may stand in braces."""
    return sorted({*GIVEN, *command.params, *command.inputs})


def filled(command: CommandSpec, given: Mapping[str, str]) -> list[str]:
    """Return argv with values in place of the names; `given` has inputs' paths and `GIVEN`.

    Raises KeyError for an unknown name (the matrix was checked).
    """
    values = {name: as_word(value) for name, value in command.params.items()} | dict(given)
    return [_filled_word(word, values) for word in command.argv]


def _filled_word(word: str, values: Mapping[str, str]) -> str:
    text = ""
    for literal, name, _, _ in string.Formatter().parse(word):
        text += literal + (values[name] if name is not None else "")
    return text


def as_word(value: int | float | str | bool) -> str:
    """Return a param as a word of argv: `0.001`, `1e-05`, `true`, text as it is."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value) if isinstance(value, float) else str(value)
