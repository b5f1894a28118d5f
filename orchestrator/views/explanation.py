"""`orch why`: an answer, what it rests on, what to do."""

from __future__ import annotations

from orchestrator.explanation import Explanation
from orchestrator.rows import JobRow
from orchestrator.views import text
from orchestrator.views.documents import SCHEMA_VERSION, Document
from orchestrator.views.palette import STYLES

Line = tuple[str, str]  # a text and its style


def explanation_lines(row: JobRow, explanation: Explanation) -> list[Line]:
    """Return the lines for people, with their styles."""
    lines = [(f"{text.clean(row.name)} ({text.short_id(row.id)}) is {row.state.value}:", "bold")]
    lines.append((f"  {text.clean(explanation.answer)}", STYLES[row.state]))
    if explanation.because:
        lines.append(("because", "dim"))
        lines += [(f"  - {text.clean(line)}", "") for line in explanation.because]
    return lines


def explanation_document(row: JobRow, explanation: Explanation) -> Document:
    """Return `orch why --json`."""
    return {
        "schema_version": SCHEMA_VERSION,
        "job": {"id": row.id, "name": row.name, "state": row.state.value},
        "answer": explanation.answer,
        "because": list(explanation.because),
        "next": [{"do": action.do, "purpose": action.purpose} for action in explanation.next],
    }
