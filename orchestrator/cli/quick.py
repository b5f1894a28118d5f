"""The command that is typed most often, without the price of typer's parser.

typer imports pydantic's schema machinery to convert even one flag: 0.1 s, as much as all the
rest of `orch status`. Lines that consist of nothing but the plainest words are read here;
everything else (help, mistakes, other options) takes the ordinary way, with the same outcome.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_FLAGS = {"--json": "as_json", "--all": "show_all", "-a": "show_all"}


def quick_status(words: Sequence[str]) -> dict[str, Any] | None:
    """Return the arguments of `listing.show_status`, or None where typer must look at the line."""
    if not words or words[0] != "status":
        return None
    arguments: dict[str, Any] = {"selector": None}
    for word in words[1:]:
        if word in _FLAGS:
            arguments[_FLAGS[word]] = True
        elif word and not word.startswith("-") and arguments["selector"] is None:
            arguments["selector"] = word
        else:
            return None
    return arguments
