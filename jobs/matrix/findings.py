"""Problems on their way to a line and column.

Checks speak of a cell's fields; a cell's values come from `defaults`, from axes and from
`--set`. A `Setting` remembers which, so a finding ends at the very word that caused it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from jobs.errors import HubModel, Problem
from jobs.yaml_strict import Document, KeyPath, Node

FieldPath = tuple[str, ...]  # of a cell, e.g. ("train", "lr")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something wrong with a field of a cell."""

    path: KeyPath
    message: str
    fix: str
    at_key: bool = False  # the key itself is wrong (or missing), not its value
    of_whole: bool = False  # about several fields together, or one that an axis may still give
    fetchable: HubModel | None = None  # what would mend it


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A value for a field, and the place that says so."""

    field: FieldPath
    value: Node
    document: Document
    path: KeyPath  # in the document

    @property
    def key(self) -> str:
        """The dotted key."""
        return ".".join(self.field)


def locate(finding: Finding, settings: Sequence[Setting]) -> Problem:
    """Return the finding as a problem of the setting that decided: the last one that covers it.

    The first of `settings` has the empty field and so covers everything.
    """
    for setting in reversed(settings):
        depth = len(setting.field)
        if finding.path[:depth] == setting.field:
            path = (*setting.path, *finding.path[depth:])
            problem = setting.document.problem(
                path, finding.message, finding.fix, key=finding.at_key
            )
            return replace(problem, fetchable=finding.fetchable) if finding.fetchable else problem
    raise AssertionError("the first setting covers everything")


class Findings:
    """A list of problems that forgets repetitions (a wrong default is wrong in every cell)."""

    def __init__(self) -> None:
        self._problems: dict[Problem, None] = {}

    def add(self, problem: Problem) -> None:
        """Add one problem."""
        self._problems[problem] = None

    def extend(self, problems: Iterable[Problem]) -> None:
        """Add several."""
        for problem in problems:
            self.add(problem)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """All problems, without repetitions."""
        return tuple(self._problems)
