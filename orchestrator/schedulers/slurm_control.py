"""Commands that change something at Slurm, and what they say when only a part was done."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from orchestrator.schedulers.base import TaskKey
from orchestrator.schedulers.slurm_commands import Broken, run
from orchestrator.schedulers.slurm_parse import Garbled, compress_ranges, expand_ranges

CONTROL_SECONDS = 20.0
_MOST = 300  # characters of an answer that people are shown
_DONE = "No error"
_TASKS = re.compile(r"(?P<array>[0-9]+)_\[?(?P<indices>[0-9,:-]*[0-9])\]?: (?P<words>\S.*)")


def control(command: Sequence[str]) -> str | None:
    """Run a command that changes something; None, or what went wrong."""
    said = run(list(command), seconds=CONTROL_SECONDS)
    if isinstance(said, Broken):
        return said.reason
    if said.code == 0:
        return None
    return f"{command[0]}: {_shown(said.err or said.out) or f'left with {said.code}'}"


def update_tasks(keys: Sequence[TaskKey], change: str) -> dict[TaskKey, str | None]:
    """`scontrol update`, one call an array; return how each task went. Check the token before.

    Where some tasks of an array refuse (one has begun meanwhile), scontrol does it to the others
    and says so of each.
    """
    problems: dict[TaskKey, str | None] = {}
    for array_id, group in by_array(keys):
        indices = compress_ranges([key.index for key in group])
        words = ["scontrol", "update", f"JobId={array_id}_[{indices}]", change]
        said = run(words, seconds=CONTROL_SECONDS)
        if isinstance(said, Broken):
            problems.update(dict.fromkeys(group, said.reason))
        elif said.code == 0:
            problems.update(dict.fromkeys(group))
        else:
            text = said.err or said.out
            whole = f"scontrol: {_shown(text) or f'left with {said.code}'}"
            told = told_of_tasks(text, array_id)
            problems.update({key: told.get(key.index, whole) for key in group})
    return problems


def told_of_tasks(text: str, array_id: str) -> dict[int, str | None]:
    """Return what scontrol said of single tasks: None for one to which it was done. Pure."""
    told: dict[int, str | None] = {}
    for line in text.splitlines():
        match = _TASKS.fullmatch(line.strip())
        if match is None or match["array"] != array_id:
            continue
        try:
            indices = expand_ranges(match["indices"])
        except Garbled:
            continue
        words = _shown(match["words"])
        told.update(dict.fromkeys(indices, None if words == _DONE else f"scontrol: {words}"))
    return told


def by_array(keys: Iterable[TaskKey]) -> list[tuple[str, list[TaskKey]]]:
    """Return the keys of each array."""
    groups: dict[str, list[TaskKey]] = {}
    for key in keys:
        groups.setdefault(key.scheduler_id, []).append(key)
    return list(groups.items())


def _shown(text: str) -> str:
    return text.strip().encode("ascii", "replace").decode()[:_MOST]
