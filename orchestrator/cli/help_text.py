"""`--help`: classic text with bold titles, and examples that keep their lines.

typer's rich help imports a Markdown parser and a syntax highlighter: 0.1 s for a page of text.
"""

from __future__ import annotations

import inspect
import os
import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from typer.core import TyperCommand, TyperGroup

if TYPE_CHECKING:
    from typer._click.core import Context

_KEEP_LINES = "\b"  # click reflows every paragraph that does not begin with it
_TITLE = re.compile(r"^(Usage|\w+:$)", re.MULTILINE)
_COMMAND = re.compile(r"^( *\$ )(.*)$", re.MULTILINE)
_BOLD, _DIM, _PLAIN = "\x1b[1m", "\x1b[2m", "\x1b[0m"


def help_of(verb: Callable[..., object]) -> str:
    """Return the help of a verb; its docstring ends with an `Example` paragraph."""
    paragraphs = inspect.cleandoc(verb.__doc__ or "").split("\n\n")
    return "\n\n".join(
        _examples(paragraph) if paragraph.startswith("Example") else paragraph
        for paragraph in paragraphs
    )


def _examples(paragraph: str) -> str:
    title, *commands = paragraph.splitlines()
    return "\n".join([_KEEP_LINES, title, *(f"  $ {command.strip()}" for command in commands)])


def _styled(text: str) -> str:
    plain = "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb"
    if plain or not sys.stdout.isatty():
        return text
    text = _TITLE.sub(rf"{_BOLD}\1{_PLAIN}", text)
    return _COMMAND.sub(rf"{_DIM}\1{_PLAIN}{_BOLD}\2{_PLAIN}", text)


class Verb(TyperCommand):
    """A verb with our help."""

    def get_help(self, ctx: Context) -> str:
        """Return the page."""
        return _styled(super().get_help(ctx))


class Verbs(TyperGroup):
    """`orch` itself, with our help."""

    def get_help(self, ctx: Context) -> str:
        """Return the page."""
        return _styled(super().get_help(ctx))
