"""`orch results --rows …`: what the options ask for, as a layout, and the pivot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.cli.exits import Exit, Stop
from orchestrator.cli.selecting import meant, words_of
from orchestrator.tables.directions import Better
from orchestrator.tables.jobs import SEED, TableJob
from orchestrator.tables.keys import Keys
from orchestrator.tables.pivot import METRIC, Layout, Mixed, Pivot, Undirected, pivot


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The options as they were given."""

    rows: Sequence[str] | None
    columns: Sequence[str] | None
    metric: Sequence[str] | None
    over: Sequence[str] | None
    best: Sequence[str] | None
    by: str | None
    better: Better | None

    @property
    def given(self) -> bool:
        """Whether a pivot is asked for at all."""
        return any(
            (self.rows, self.columns, self.metric, self.over, self.best, self.by, self.better)
        )


def asked_pivot(jobs: Sequence[TableJob], asked: Asked) -> Pivot:
    """Return the pivot that is asked for. Raises `Stop`."""
    layout = _layout(jobs, asked)
    try:
        return pivot(jobs, layout)
    except Mixed as error:
        raise Stop(
            Exit.USAGE,
            f"{error}: a mean over them would mix settings",
            fix=f"{mixed_fix(error.keys[0], layout)}, or --over {error.keys[0]} if it is meant",
        ) from error
    except Undirected as error:
        raise Stop(Exit.USAGE, str(error), fix="--better min, or --better max") from error


def mixed_fix(key: str, layout: Layout) -> str:
    """Return options that take a key out of a cell."""
    return f"--columns {','.join([*layout.columns, key])}, --best {key} or --where {key}=VALUE"


def _layout(jobs: Sequence[TableJob], asked: Asked) -> Layout:
    keys = Keys(jobs)
    if not asked.rows:
        raise Stop(Exit.USAGE, "a pivot needs rows", fix="--rows KEY, e.g. --rows method.name")
    if not asked.metric:
        some = ", ".join(keys.metrics[:8]) or "no job has a result yet"
        raise Stop(Exit.USAGE, "a pivot needs a metric", fix=f"--metric NAME; there are: {some}")
    metrics = [key for word in words_of(asked.metric) for key in meant(keys.measured, word)]
    rows, columns = _keys(keys, asked.rows), _keys(keys, asked.columns)
    if len(set(metrics)) > 1 and METRIC not in (*rows, *columns):
        columns = (*columns, METRIC)
    layout = Layout(
        rows=rows,
        columns=columns,
        metrics=tuple(dict.fromkeys(metrics)),
        over=_keys(keys, asked.over) or (SEED,),
        best=_keys(keys, asked.best),
        by=meant(keys.measured, asked.by)[0] if asked.by else None,
        better=asked.better,
    )
    _refuse_twice(layout)
    return layout


def _keys(keys: Keys, options: Sequence[str] | None) -> tuple[str, ...]:
    words = words_of(options)
    return tuple(word if word == METRIC else meant(keys.key, word) for word in words)


def _refuse_twice(layout: Layout) -> None:
    named = (*layout.rows, *layout.columns, *layout.over, *layout.best)
    twice = sorted({key for key in named if named.count(key) > 1})
    if twice:
        raise Stop(
            Exit.USAGE,
            f"{', '.join(twice)} is asked for twice",
            fix="a key is of rows, columns, --over or --best, and of one of them only",
        )
    if (layout.by or layout.better) and not layout.best:
        raise Stop(Exit.USAGE, "--by and --better say what --best chooses by", fix="--best KEY")
