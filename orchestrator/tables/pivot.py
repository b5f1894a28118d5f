"""The pivot: rows × columns, in each cell the mean of a metric over repetitions.

A job that has no value is counted in its cell, never left out in silence; jobs that are no
repetitions of each other are never averaged.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orchestrator.tables.directions import Better, known_direction
from orchestrator.tables.jobs import SEED, TableJob, differing
from orchestrator.tables.statistics import Summary, summarize

_NAMED = 5  # keys that a message names
METRIC = "metric"  # the key that stands for the names of several metrics
Place = tuple[object, ...]  # values of the keys of a row or a column


class Mixed(ValueError):
    """A cell holds jobs that are no repetitions of each other."""

    def __init__(self, keys: Sequence[str], where: str) -> None:
        more = f" and {len(keys) - _NAMED} more" if len(keys) > _NAMED else ""
        super().__init__(
            f"the jobs of the cell {where} also differ in {', '.join(keys[:_NAMED])}{more}"
        )
        self.keys = tuple(keys)


class Undirected(ValueError):
    """The name of a metric does not say which end is better."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What a pivot is asked for; all keys are whole."""

    rows: tuple[str, ...]
    columns: tuple[str, ...] = ()
    metrics: tuple[str, ...]
    over: tuple[str, ...] = (SEED,)  # keys of repetitions
    best: tuple[str, ...] = ()  # keys of which the best setting is taken
    by: str | None = None  # what the best is chosen by; None: the metric itself
    better: Better | None = None

    def direction(self, metric: str) -> Better:
        """Return which end is better. Raises `Undirected`."""
        if self.better is None:
            known = known_direction(metric)
            if known is None:
                raise Undirected(f"whether less or more of {metric!r} is better is not known")
            return known
        return self.better


@dataclass(frozen=True, slots=True, kw_only=True)
class PivotCell:
    """The repetitions of one setting: their values, and those that have none."""

    summary: Summary
    values: tuple[float, ...]
    missing: tuple[TableJob, ...]  # failed, not done, or without this metric
    chosen: Mapping[str, object]  # key -> value, of the keys of `best`
    candidates: int = 1  # settings that the best was looked for among
    incomplete: int = 0  # of them, those with missing values: the choice may change

    @property
    def jobs(self) -> int:
        """How many repetitions there are, done or not."""
        return len(self.values) + len(self.missing)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pivot:
    """Rows and columns in order; a combination that nobody submitted has no cell."""

    layout: Layout
    rows: tuple[Place, ...]
    columns: tuple[Place, ...]
    cells: Mapping[tuple[Place, Place], PivotCell]


def pivot(jobs: Sequence[TableJob], layout: Layout) -> Pivot:
    """Return the pivot of the jobs. Raises `Mixed`, `Undirected`."""
    groups: dict[tuple[Place, Place, str], list[TableJob]] = {}
    for job in jobs:
        for metric in layout.metrics:
            row = _place(job, layout.rows, metric)
            column = _place(job, layout.columns, metric)
            groups.setdefault((row, column, metric), []).append(job)
    cells = {
        (row, column): _cell(group, metric, layout)
        for (row, column, metric), group in groups.items()
    }
    return Pivot(
        layout=layout,
        rows=ordered([row for row, _, _ in groups], layout.rows),
        columns=ordered([column for _, column, _ in groups], layout.columns),
        cells=cells,
    )


def _place(job: TableJob, keys: Sequence[str], metric: str) -> Place:
    return tuple(metric if key == METRIC else job.get(key) for key in keys)


def ordered(places: Sequence[Place], keys: Sequence[str]) -> tuple[Place, ...]:
    """Return distinct places: numbers ascending, words in the order of submission, None last."""
    distinct = list(dict.fromkeys(places))
    ranks = [_ranks([place[index] for place in distinct]) for index in range(len(keys))]
    return tuple(
        sorted(distinct, key=lambda place: [r[v] for r, v in zip(ranks, place, strict=True)])
    )


def _ranks(values: Sequence[object]) -> dict[object, int]:
    known = [value for value in dict.fromkeys(values) if value is not None]
    numbers = [v for v in known if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(numbers) == len(known):
        return {value: index for index, value in enumerate([*sorted(numbers), None])}
    return {value: index for index, value in enumerate([*known, None])}


def _cell(group: Sequence[TableJob], metric: str, layout: Layout) -> PivotCell:
    settings: dict[Place, list[TableJob]] = {}
    for job in group:
        settings.setdefault(_place(job, layout.best, metric), []).append(job)
    for repetitions in settings.values():
        _refuse_mixed(repetitions, metric, layout)
    cells = {place: _summary(jobs, metric) for place, jobs in settings.items()}
    if not layout.best:
        return next(iter(cells.values()))
    judged = {place: _summary(jobs, layout.by or metric) for place, jobs in settings.items()}
    direction = layout.direction(layout.by or metric)
    known = {p: c.summary.mean for p, c in judged.items() if c.summary.mean is not None}
    best = direction.choose(known, known.__getitem__) if known else next(iter(cells))
    chosen = dict(zip(layout.best, best, strict=True)) if known else {}
    found = cells[best]
    return PivotCell(
        summary=found.summary if known else Summary(0, None, None),
        values=found.values if known else (),
        missing=found.missing if known else tuple(group),
        chosen=chosen,
        candidates=len(settings),
        incomplete=sum(bool(cell.missing) for cell in judged.values()),
    )


def _summary(jobs: Sequence[TableJob], metric: str) -> PivotCell:
    values, missing = [], []
    for job in jobs:
        value = number_of(job, metric)
        if value is None:
            missing.append(job)
        else:
            values.append(value)
    return PivotCell(
        summary=summarize(values), values=tuple(values), missing=tuple(missing), chosen={}
    )


def number_of(job: TableJob, key: str) -> float | None:
    """Return a finite number that the job has under a key; a flag counts as 0 or 1."""
    value = job.get(key)
    if not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _refuse_mixed(jobs: Sequence[TableJob], metric: str, layout: Layout) -> None:
    mixed = [key for key in differing(jobs) if key not in layout.over]
    if mixed:
        keys = [*layout.rows, *layout.columns]
        place = zip(keys, _place(jobs[0], keys, metric), strict=True)
        raise Mixed(mixed, ", ".join(f"{key}={value}" for key, value in place))
