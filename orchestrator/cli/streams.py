"""Where words go: data to stdout, messages and progress to stderr.

rich honours NO_COLOR, TERM=dumb and streams that are no terminal; this module adds that a
listing which is not read on a terminal is neither cut nor wrapped.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console

    from orchestrator.views.table import Table


def tolerant_streams() -> None:
    """Let no character that a stream cannot encode end the program."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _console(stream: TextIO) -> Console:
    from rich.console import Console

    return Console(file=stream, highlight=False, markup=False, emoji=False)


def out() -> Console | None:
    """Return the console of stdout; None where stdout is no terminal (and rich is not needed)."""
    return _terminal(sys.stdout)


def err() -> Console | None:
    """Return the console of stderr; None where stderr is no terminal."""
    return _terminal(sys.stderr)


def _terminal(stream: TextIO) -> Console | None:
    return _console(stream) if stream.isatty() else None


def table_width(console: Console | None) -> int | None:
    """Return the columns of a terminal; None where a table may be as wide as it likes."""
    return None if console is None else console.width


def show_table(table: Table) -> None:
    """Print a table on stdout."""
    from orchestrator.views.table import print_table

    print_table(out(), sys.stdout, table)


def say(line: str, style: str = "") -> None:
    """Print one message line on stderr."""
    _styled(sys.stderr, line, style)


def show(line: str, style: str = "") -> None:
    """Print one line of data on stdout."""
    _styled(sys.stdout, line, style)


def _styled(stream: TextIO, line: str, style: str) -> None:
    # Without a terminal there is nothing to style, and rich costs 60 ms to import.
    console = _terminal(stream)
    if console is None:
        stream.write(line + "\n")
        stream.flush()
        return
    from rich.text import Text

    console.print(Text(line, style=style), soft_wrap=True)


def hint(command: str, purpose: str) -> None:
    """Suggest the next command on stderr."""
    say(f"{purpose}: {command}", "dim")


def show_document(document: Mapping[str, Any]) -> None:
    """Print one JSON document on stdout."""
    from orchestrator.views.documents import encode

    sys.stdout.write(encode(dict(document)) + "\n")
    sys.stdout.flush()


def show_bytes(pieces: Iterable[bytes]) -> None:
    """Print a document that is encoded already."""
    for piece in pieces:
        sys.stdout.write(piece.decode("ascii"))
    sys.stdout.flush()
