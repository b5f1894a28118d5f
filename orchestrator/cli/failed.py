"""`orch failures`."""

from __future__ import annotations

from orchestrator.cli import streams
from orchestrator.cli.inquiring import ALL, open_inquiry
from orchestrator.cli.options import Json, Selector


def failures(selector: Selector = None, as_json: Json = False) -> None:
    """Group failed jobs by what they failed with.

    Examples:
      orch failures
      orch failures quickstart
      orch retry --group 1
    """
    from orchestrator.views import failures as view
    from orchestrator.views.text import clean, count

    inquiry = open_inquiry(selector or ALL)
    total, groups = inquiry.failures(selector)
    if as_json:
        tracebacks = [inquiry.traceback_of(group.example) for group in groups]
        streams.show_document(view.failures_document(groups, total=total, tracebacks=tracebacks))
        return
    for group in groups[: view.GROUPS_SHOWN]:
        traceback = inquiry.traceback_of(group.example)
        for line, style in view.group_lines(group, total=total, traceback=traceback):
            streams.show(line, style)
        streams.show("")
    if not groups:
        streams.show(f"no job has failed ({count(total, 'job')})")
        return
    hidden = len(groups) - view.GROUPS_SHOWN
    if hidden > 0:
        streams.show(f"… and {count(hidden, 'smaller group')}; --json lists all", "dim")
    named = f" {clean(selector)}" if selector else ""
    streams.hint(f"orch retry --group 1{named}", "run a group again once its cause is gone")
