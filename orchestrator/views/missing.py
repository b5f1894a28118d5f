"""What a dry run says of models, tasks and inputs that are not on this machine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from orchestrator.views import text

if TYPE_CHECKING:
    from jobs.errors import Problem

_SHOWN = 5
_KINDS = {"model": "model", "task": "task", "command": "input"}


def missing_lines(missing: Sequence[Problem]) -> Iterator[str]:
    """Yield how many sources are not here, the first of them, and what that means."""
    if not missing:
        return
    found = list(dict.fromkeys((_kind(problem), problem.absent or "") for problem in missing))
    counts = [
        text.count(number, kind)
        for kind in _KINDS.values()
        if (number := sum(one == kind for one, _ in found))
    ]
    names = ", ".join(text.clean(source) for _, source in found[:_SHOWN])
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    yield f"not here: {', '.join(counts)} ({names}{more})"
    yield (
        "submit would refuse, or fetch what a hub has; until they are here the ids of their jobs"
        " are provisional (their content is a part of them), so these jobs count as new"
    )


def _kind(problem: Problem) -> str:
    parts = problem.key.replace("[", ".").split(".")
    for section, kind in _KINDS.items():
        if section in parts:
            return kind
    return "input"
