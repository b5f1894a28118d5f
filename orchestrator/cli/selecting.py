"""Which jobs a table or a picture is about, and which keys are meant: words into whole keys."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from orchestrator.cli.exits import Exit, Stop
from orchestrator.rows import ResultRow
from orchestrator.tables.filters import BadFilter, parse_filter
from orchestrator.tables.jobs import TableJob
from orchestrator.tables.keys import Keys, UnknownKey

_T = TypeVar("_T")


def meant(find: Callable[..., _T], *words: object) -> _T:
    """Return what `find` makes of the words; wrong ones are the user's. Raises `Stop`."""
    try:
        return find(*words)
    except (UnknownKey, BadFilter) as error:
        raise Stop(Exit.USAGE, str(error), fix="orch results --csv has every key") from error


def words_of(options: Sequence[str] | None) -> list[str]:
    """Return the words of an option that may be repeated and may list several with commas."""
    return [word for option in options or () for word in option.split(",") if word]


def filtered(
    rows: Sequence[ResultRow], jobs: Sequence[TableJob], where: Sequence[str] | None
) -> tuple[list[ResultRow], list[TableJob]]:
    """Return the rows and jobs that match all filters. Raises `Stop`."""
    keys = Keys(jobs)
    filters = [meant(parse_filter, written, keys) for written in where or ()]
    kept = [
        (row, job)
        for row, job in zip(rows, jobs, strict=True)
        if all(one.matches(job) for one in filters)
    ]
    return [row for row, _ in kept], [job for _, job in kept]
