"""Naming jobs in a sentence: some of many, and what was asked for."""

from __future__ import annotations

from collections.abc import Sequence

_NAMES_SHOWN = 10


def some(names: Sequence[str]) -> str:
    """Return the first names, and how many more there are."""
    from orchestrator.views.text import clean

    shown = ", ".join(clean(name) for name in names[:_NAMES_SHOWN])
    more = len(names) - _NAMES_SHOWN
    return f"{shown} and {more:,} more" if more > 0 else shown


def meant(selectors: Sequence[str]) -> str:
    """Return selectors as they would be typed again."""
    from orchestrator.views.text import clean

    return " ".join(map(clean, selectors))
