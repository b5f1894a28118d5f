"""Which names are allowed, and how any text becomes a part of one.

Names reach file names, terminals, `#SBATCH` lines and scheduler listings, so they are
allow-listed at the door and never escaped later.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

MATRIX_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
CELL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=+-]{0,127}")
MATRIX_NAME_RULE = "1 to 64 of A-Z a-z 0-9 . _ -, the first a letter or digit"
MAX_CELL_NAME = 128

# C0, DEL and C1 controls, line separators, bidirectional overrides, surrogates and what
# Unicode calls no character: none of these has a place in a name, a path or a terminal.
_UNSAFE = (
    "\\u0000-\\u001f\\u007f-\\u009f\\u2028\\u2029\\u200e\\u200f\\u202a-\\u202e\\u2066-\\u2069"
    "\\ufeff\\ufffe\\uffff\\ud800-\\udfff"
)
UNSAFE_IN_NAME = re.compile(f"[{_UNSAFE}]")
UNSAFE_IN_TEXT = re.compile(f"(?![\\t\\n])[{_UNSAFE}]")  # prose may have tabs and newlines
UNSAFE_IN_FILE = re.compile(f"(?![\\t\\n\\r])[{_UNSAFE}]")


class BadName(ValueError):
    """A name is outside the allow-list; the message has the rule."""


def check_matrix_name(name: str) -> str:
    """Return `name`, or raise `BadName`."""
    if not MATRIX_NAME.fullmatch(name):
        raise BadName(f"{printable(name)} is no name: use {MATRIX_NAME_RULE}")
    return name


def check_job_name(name: str) -> str:
    """Return `name`, which is `MATRIX` or `MATRIX/CELL`, or raise `BadName`."""
    matrix, slash, cell = name.partition("/")
    if not MATRIX_NAME.fullmatch(matrix) or (slash and not CELL_NAME.fullmatch(cell)):
        raise BadName(f"{printable(name)} is no job name")
    return name


def slug(text: str, *, limit: int = 40) -> str:
    """Return `text` with every character that a cell name refuses replaced by `_`."""
    return re.sub(r"[^A-Za-z0-9._+-]+", "_", text).strip("_")[:limit] or "_"


def printable(value: object, *, limit: int = 60) -> str:
    """Return a value as one short line that a terminal can show safely, quoted when a string."""
    text = ascii(value) if not isinstance(value, str) else _quoted(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _quoted(text: str) -> str:
    return "`" + UNSAFE_IN_NAME.sub(lambda m: ascii(m[0])[1:-1], text) + "`"


def safe_join(root: Path, relative: str) -> Path | None:
    """Return `root/relative`, or None when it would leave `root` by its words or by a symlink."""
    parts = PurePosixPath(relative)
    if parts.is_absolute() or ".." in parts.parts or "\0" in relative:
        return None
    joined = root / parts
    return joined if joined.resolve().is_relative_to(root.resolve()) else None
