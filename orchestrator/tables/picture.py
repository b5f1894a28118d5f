"""What a picture shows, before anything is drawn: series of points, axes, what is missing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from orchestrator.tables.jobs import TableJob, independent
from orchestrator.tables.keys import short_titles
from orchestrator.tables.pivot import METRIC, Pivot, Place, number_of, ordered

_LOG_FROM = 50.0  # values that span more than this factor crowd a linear axis


class Marks(StrEnum):
    """How points are drawn."""

    MEANS = "means"  # joined, with error bars
    SCATTER = "scatter"
    CURVES = "curves"  # a line without marks


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One mark. `spread` is None for a single value; `whole`: no job of it is missing."""

    x: float
    y: float
    spread: float | None = None
    whole: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Points of one colour. Series of one `group` share it and have one entry in the legend."""

    label: str
    points: tuple[Point, ...]
    group: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """Series with their axes. `names`: words at x = 0, 1, 2 … where x is no number."""

    marks: Marks
    series: tuple[Series, ...]
    x_key: str
    y_key: str
    names: tuple[str, ...] = ()
    spread_over: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()  # ids of jobs that should be in it and have no value

    @property
    def xs(self) -> list[float]:
        """All distinct x, ascending."""
        return sorted({point.x for series in self.series for point in series.points})

    @property
    def ys(self) -> list[float]:
        """All y."""
        return [point.y for series in self.series for point in series.points]


def wants_log(values: Sequence[float]) -> bool:
    """Return whether a logarithmic axis serves these values better."""
    return bool(values) and min(values) > 0 and max(values) / min(values) >= _LOG_FROM


def of_pivot(pivot: Pivot, *, without_x: Sequence[TableJob] = ()) -> Picture:
    """Return a pivot's means as points: its row key is x, each of its columns one series.

    `without_x`: jobs that are not in the pivot because they have no place on the axis.
    """
    (x_key,) = pivot.layout.rows
    rows = pivot.rows
    numbers = [_number(row[0]) for row in rows]
    named = None in numbers
    xs = {row: float(n) if named else numbers[n] for n, row in enumerate(rows)}
    series = []
    for group, column in enumerate(pivot.columns):
        found = [(xs[row], pivot.cells.get((row, column))) for row in rows]
        points = tuple(
            Point(x=x, y=cell.summary.mean, spread=cell.summary.std, whole=not cell.missing)
            for x, cell in found
            if x is not None and cell is not None and cell.summary.mean is not None
        )
        if not points:
            continue
        label = place_label(pivot.layout.columns, column)
        series.append(Series(label=label, points=points, group=group))
    missing = {job.id for cell in pivot.cells.values() for job in cell.missing}
    missing |= {job.id for job in without_x}
    return Picture(
        marks=Marks.MEANS,
        series=tuple(series),
        x_key=x_key,
        y_key=" and ".join(pivot.layout.metrics),
        names=tuple(_word(row[0]) for row in rows) if named else (),
        spread_over=pivot.layout.over,
        missing=tuple(sorted(missing)),
    )


def scatter(jobs: Sequence[TableJob], *, x: str, y: str, by: Sequence[str]) -> Picture:
    """Return one point a job, in one series for each value of the keys `by`."""
    points: dict[Place, list[Point]] = {}
    missing = []
    for job in jobs:
        at, value = number_of(job, x), number_of(job, y)
        if at is None or value is None:
            missing.append(job.id)
            continue
        place = tuple(job.get(key) for key in by)
        points.setdefault(place, []).append(Point(x=at, y=value))
    series = (
        Series(label=place_label(by, place), points=tuple(points[place]), group=group)
        for group, place in enumerate(ordered(list(points), by))
    )
    return Picture(
        marks=Marks.SCATTER, series=tuple(series), x_key=x, y_key=y, missing=tuple(missing)
    )


def learning_curves(
    jobs: Sequence[TableJob],
    rows: Mapping[str, Sequence[Mapping[str, float]]],
    *,
    y: str,
    by: Sequence[str],
) -> Picture:
    """Return one line a job; lines of equal values of `by` (empty: of one job) share a colour."""
    keys = list(by) or independent(jobs)
    places = {job.id: tuple(job.get(key) for key in keys) for job in jobs}
    groups = {place: n for n, place in enumerate(ordered(list(places.values()), keys))}
    lines, missing = [], []
    for job in jobs:
        points = tuple(
            Point(x=row["step"], y=row[y])
            for row in rows[job.id]
            if y in row and math.isfinite(row[y])
        )
        if not points:
            missing.append(job.id)
            continue
        place = places[job.id]
        lines.append(Series(label=place_label(keys, place), points=points, group=groups[place]))
    lines.sort(key=lambda line: line.group)
    return Picture(
        marks=Marks.CURVES, series=tuple(lines), x_key="step", y_key=y, missing=tuple(missing)
    )


def place_label(keys: Sequence[str], place: Place) -> str:
    """Return `lora, rank=8`: words that name themselves stand alone."""
    return ", ".join(
        _word(value) if key == METRIC or key.endswith(".name") else f"{title}={_word(value)}"
        for key, title, value in zip(keys, short_titles(keys), place, strict=True)
    )


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def _word(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:g}" if isinstance(value, float) else str(value)
