"""Problems on their way to a line and column.

Checks speak of a cell's fields; a cell's values come from `defaults`, from axes and from
`--set`. A `Setting` remembers which, so a finding ends at the very word that caused it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from jobs.errors import HubRepo, Problem
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
    fetchable: HubRepo | None = None  # what would mend it
    absent: str | None = None  # nothing is wrong but that this model, task or input is not here


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
            if finding.fetchable is None and finding.absent is None:
                return problem
            return replace(problem, fetchable=finding.fetchable, absent=finding.absent)
    raise AssertionError("the first setting covers everything")


class Findings:
    """A list of problems that forgets repetitions (a wrong default is wrong in every cell).

    With `absent_ok` a source that is not here is no problem, but `missing`.
    """

    def __init__(self, *, absent_ok: bool = False) -> None:
        self._absent_ok = absent_ok
        self._problems: dict[Problem, None] = {}
        self._missing: dict[Problem, None] = {}

    def add(self, problem: Problem) -> None:
        """Add one problem."""
        if self._absent_ok and problem.absent is not None:
            self._missing[problem] = None
        else:
            self._problems[problem] = None

    def extend(self, problems: Iterable[Problem]) -> None:
        """Add several."""
        for problem in problems:
            self.add(problem)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """All problems, without repetitions."""
        return tuple(self._problems)

    @property
    def missing(self) -> tuple[Problem, ...]:
        """Sources that are not here, in the order of the file."""
        return tuple(sorted(self._missing))
