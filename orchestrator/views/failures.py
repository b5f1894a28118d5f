"""`orch failures`: what failed with the same, the largest group first."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.failure_groups import FailureGroup, place_of
from orchestrator.views import text
from orchestrator.views.documents import SCHEMA_VERSION, Document

Line = tuple[str, str]  # a text and its style
GROUPS_SHOWN = 10
_NAMES_SHOWN = 5
_TRACEBACK_LINES = 6


def group_lines(group: FailureGroup, *, total: int, traceback: str) -> list[Line]:
    """Return the lines for people: how many, with what, where, which jobs."""
    place = place_of(traceback)
    at = f" at {text.clean(place)}" if place else ""
    how_many = f"{len(group.jobs):,} of {text.count(total, 'job')} failed"
    same = "with the same" if len(group.jobs) > 1 else "with"
    lines = [(f"group {group.number}: {how_many} {same} {text.clean(group.what)}{at}", "bold red")]
    lines.append((f"  {text.clean(group.message)}", ""))
    tail = traceback.rstrip().splitlines()[-_TRACEBACK_LINES:]
    lines += [(f"  | {text.clean(line)}", "dim") for line in tail]
    names = [f"{text.clean(j.name)} ({text.short_id(j.id)})" for j in group.jobs[:_NAMES_SHOWN]]
    more = len(group.jobs) - len(names)
    rest = f" and {more:,} more" if more > 0 else ""
    return [*lines, (f"  jobs: {', '.join(names)}{rest}", "")]


def failures_document(
    groups: Sequence[FailureGroup], *, total: int, tracebacks: Sequence[str]
) -> Document:
    """Return `orch failures --json`: all groups, all their jobs."""
    return {
        "schema_version": SCHEMA_VERSION,
        "jobs": total,
        "failed": sum(len(group.jobs) for group in groups),
        "groups": [
            {
                "number": group.number,
                "id": group.id,
                "what": group.what,
                "message": group.message,
                "place": place_of(traceback),
                "traceback": traceback,
                "jobs": [{"id": j.id, "name": j.name, "reason": j.reason} for j in group.jobs],
            }
            for group, traceback in zip(groups, tracebacks, strict=True)
        ],
    }
