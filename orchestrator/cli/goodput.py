"""`orch status --goodput`."""

from __future__ import annotations

from orchestrator.cli import streams
from orchestrator.cli.inquiring import ALL, open_inquiry

_ROW_LIMIT = 50


def show_goodput(selector: str | None, *, show_all: bool, as_json: bool) -> int:
    """Show what the time of jobs went into; return the exit code."""
    from orchestrator.views import goodput as view

    entries = open_inquiry(selector or ALL).entries(selector)
    if as_json:
        streams.show_document(view.goodput_document(entries))
        return 0
    limit = _ROW_LIMIT if streams.out() is not None and not show_all else None
    streams.show_table(view.goodput_table(entries, limit=limit))
    streams.show("")
    streams.show(view.goodput_line(entries))
    return 0
