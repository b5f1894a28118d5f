"""`orch history`."""

from __future__ import annotations

import time

from orchestrator.cli import streams
from orchestrator.cli.inquiring import open_inquiry
from orchestrator.cli.options import JobSelector, Json


def history(job: JobSelector, as_json: Json = False) -> None:
    """Show a job's attempts: when, where, what each gained and lost, and why it ended.

    Examples:
      orch history 3f2a9c1e
      orch history 3f2a9c1e --json | jq '.attempts[].nodes'
    """
    from orchestrator.views import timeline as view
    from orchestrator.views.text import short_id

    row, attempts = open_inquiry(job).timeline(job)
    if as_json:
        streams.show_document(view.history_document(row, attempts))
        return
    if attempts:
        width = streams.table_width(streams.out())
        streams.show_table(view.timeline_table(attempts, width=width, now=time.time()))
        streams.show("")
    streams.show(view.summary_line(row, attempts), "bold")
    streams.hint(f"orch why {short_id(row.id)}", "why it is where it is")
