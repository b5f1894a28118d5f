"""`orch why`."""

from __future__ import annotations

from orchestrator.cli import streams
from orchestrator.cli.inquiring import open_inquiry
from orchestrator.cli.options import JobSelector, Json


def why(job: JobSelector, as_json: Json = False) -> None:
    """Say why a job waits, was restarted, or failed.

    Examples:
      orch why 3f2a9c1e
      orch why 3f2a9c1e --json | jq -r .answer
    """
    from orchestrator.views.explanation import explanation_document, explanation_lines

    row, explanation = open_inquiry(job).explain(job)
    if as_json:
        streams.show_document(explanation_document(row, explanation))
        return
    for line, style in explanation_lines(row, explanation):
        streams.show(line, style)
    for action in explanation.next:
        streams.hint(action.do, action.purpose)
