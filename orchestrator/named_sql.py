"""Every SQL statement of the project lives in `sql/*.sql` under a name; this is the one loader.

A file holds blocks of the form

    -- name: jobs_open
    SELECT …;
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from functools import cache
from pathlib import Path

# Not importlib.resources: its import costs a tenth of `orch status`.
_FOLDER = Path(__file__).parent / "sql"
_NAME = re.compile(r"^-- name: ([a-z][a-z0-9_]*)$", re.MULTILINE)
_MIGRATION = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")


@cache
def statements() -> dict[str, str]:
    """Return all named statements. Raises `ValueError` for a name that is used twice."""
    found: dict[str, str] = {}
    for file in sorted(_FOLDER.iterdir()):
        if not file.name.endswith(".sql"):
            continue
        _, *parts = _NAME.split(file.read_text(encoding="utf-8"))
        for name, text in zip(parts[::2], parts[1::2], strict=True):
            if name in found:
                raise ValueError(f"sql/{file.name}: the name {name} is used twice")
            found[name] = text.strip()
    return found


def migrations() -> list[tuple[int, str]]:
    """Return `(version, script)` of every migration, oldest first."""
    folder = _FOLDER / "migrations"
    found = [
        (int(match[1]), file.read_text(encoding="utf-8"))
        for file in folder.iterdir()
        if (match := _MIGRATION.fullmatch(file.name))
    ]
    return sorted(found)


def split_script(script: str) -> Iterator[str]:
    """Yield the statements of a script; `executescript` would commit behind our back."""
    pending = ""
    for line in script.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            yield pending
            pending = ""
