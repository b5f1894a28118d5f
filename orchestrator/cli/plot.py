"""`orch plot`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli import streams
from orchestrator.cli.exits import Exit, Stop
from orchestrator.cli.options import Json, Selector
from orchestrator.cli.pivoting import Asked, asked_pivot
from orchestrator.cli.selecting import filtered, meant, words_of
from orchestrator.cli.session import has_state, open_reading, require_state, state_home
from orchestrator.cli.table_options import Best, BetterEnd, By, Over, Where
from orchestrator.tables.jobs import TableJob, table_jobs
from orchestrator.tables.keys import Keys

if TYPE_CHECKING:
    from orchestrator.reader import Reader
    from orchestrator.tables.picture import Picture

FORMS = (".png", ".pdf")

Text = str | None


def _option(name: str, metavar: str, words: str) -> typer.models.OptionInfo:
    info: typer.models.OptionInfo = typer.Option(
        name, metavar=metavar, help=words, show_default=False
    )
    return info


def plot(
    selector: Selector = None,
    *,
    out: Annotated[Path, _option("--out", "FILE", "The picture: a .png or .pdf file.")],
    y: Annotated[Text, _option("--y", "NAME", "The metric, e.g. test.accuracy.")] = None,
    x: Annotated[Text, _option("--x", "KEY", "The axis, e.g. train.lr.")] = None,
    curve: Annotated[
        Text, _option("--curve", "NAME", "Instead: learning curves, e.g. loss or dev.loss.")
    ] = None,
    series: Annotated[
        list[str] | None, _option("--series", "KEY", "One colour for each value of KEY.")
    ] = None,
    scatter: Annotated[
        bool, typer.Option("--scatter", help="One point a job instead of means.")
    ] = False,
    over: Over = None,
    best: Best = None,
    by: By = None,
    better: BetterEnd = None,
    where: Where = None,
    log: Annotated[
        Text, _option("--log", "AXES", "Logarithmic axes: x, y, xy or none; default: as x wants.")
    ] = None,
    title: Annotated[str, _option("--title", "WORDS", "A title.")] = "",
    as_json: Json = False,
) -> None:
    """Draw a metric against a setting, a scatter of all jobs, or learning curves.

    Examples:
      orch plot grid1 --x train.lr --y test.rougeL --series method.rank --out lr.pdf
      orch plot grid1 --x trainable_parameters --y test.rougeL --series method.name --scatter --out p.png
      orch plot grid1 --curve loss --where method.rank=8 --series train.lr --out curves.png
    """  # noqa: E501 - an example is one line
    _check(out, curve=curve, x=x, y=y, scatter=scatter, log=log)
    asked = Asked(
        rows=[x] if x else None, columns=series, metric=[y] if y else None,
        over=over, best=best, by=by, better=better,
    )  # fmt: skip
    if (curve or scatter) and any((over, best, by, better)):
        raise Stop(
            Exit.USAGE,
            "--over, --best, --by and --better are about means",
            fix="leave them out, or --scatter or --curve",
        )
    home = state_home()
    if selector is not None:
        require_state(home, selector)
    if not has_state(home):
        raise Stop(
            Exit.NOT_FOUND, f"nothing was submitted in {home}", fix="orch submit matrix.yaml"
        )
    reader = open_reading(home)
    jobs = _jobs(reader, selector, where)
    picture = (
        _curves(reader, jobs, curve, series) if curve else _scores(jobs, asked, scatter=scatter)
    )
    _write(picture, out, log=log, title=title)
    _say(picture, out, as_json=as_json)


def _jobs(reader: Reader, selector: str | None, where: Sequence[str] | None) -> list[TableJob]:
    rows = reader.results(selector)
    _, jobs = filtered(rows, table_jobs(rows), where)
    if not jobs:
        raise Stop(Exit.NOT_FOUND, "no job matches", fix="orch results lists what there is")
    return jobs


def _check(out: Path, *, curve: Text, x: Text, y: Text, scatter: bool, log: Text) -> None:
    """Refuse what cannot be drawn, before anything is read. Raises `Stop`."""
    if out.suffix.lower() not in FORMS:
        raise Stop(Exit.USAGE, f"{out}: pictures are {' or '.join(FORMS)}", fix="--out FILE.png")
    if curve and (x or y or scatter):
        raise Stop(Exit.USAGE, "--curve is against steps", fix="leave out --x, --y and --scatter")
    if not curve and not (x and y):
        raise Stop(Exit.USAGE, "what is to be drawn?", fix="--x KEY --y NAME, or --curve NAME")
    if log is not None and log not in ("x", "y", "xy", "none"):
        raise Stop(Exit.USAGE, f"--log {log}: no such axes", fix="--log x, y, xy or none")


def _scores(jobs: Sequence[TableJob], asked: Asked, *, scatter: bool) -> Picture:
    from orchestrator.tables import picture

    keys = Keys(jobs)
    (x,), (y,) = asked.rows or ("",), asked.metric or ("",)
    x = meant(keys.key, x)
    if scatter:
        by = [meant(keys.key, word) for word in words_of(asked.columns)]
        return picture.scatter(jobs, x=x, y=meant(keys.measured, y)[0], by=by)
    placed = [job for job in jobs if job.get(x) is not None]
    without_x = [job for job in jobs if job.get(x) is None]
    if not placed:
        raise Stop(Exit.FAILED, f"no job has {x} yet", fix="orch status says why")
    return picture.of_pivot(asked_pivot(placed, asked), without_x=without_x)


def _curves(
    reader: Reader, jobs: Sequence[TableJob], name: str, series: Sequence[str] | None
) -> Picture:
    from orchestrator.curves import read_curve
    from orchestrator.tables.picture import learning_curves

    rows = {job.id: read_curve(reader.state.job(job.id)) for job in jobs}
    names = sorted({key for curve in rows.values() for row in curve for key in row} - {"step"})
    if name not in names:
        known = ", ".join(names) or "none yet"
        raise Stop(Exit.USAGE, f"no curve is called {name!r}", fix=f"there are: {known}")
    by = [meant(Keys(jobs).key, word) for word in words_of(series)]
    return learning_curves(jobs, rows, y=name, by=by)


def _write(picture: Picture, out: Path, *, log: Text, title: str) -> None:
    from durable.files import publish_file
    from orchestrator.views.drawing import draw

    if not picture.ys:
        raise Stop(Exit.FAILED, "no job has a value to draw yet", fix="orch status says why")
    axes = "" if log == "none" else log
    if axes and any(
        min(values) <= 0 for axis, values in (("x", picture.xs), ("y", picture.ys)) if axis in axes
    ):
        raise Stop(Exit.USAGE, "a logarithmic axis has no place for 0 or less", fix="another --log")
    try:
        data = draw(picture, form=out.suffix.lower()[1:], log=axes, title=title)
    except ImportError as error:
        raise Stop(
            Exit.FAILED,
            f"pictures need matplotlib, which cannot be imported here ({error})",
            fix="pip install 'orch[plot]'; orch results --csv has the numbers",
        ) from error
    publish_file(out.absolute(), data, durable=False)


def _say(picture: Picture, out: Path, *, as_json: bool) -> None:
    points = len(picture.ys)
    if as_json:
        from orchestrator.views.documents import outcome_document

        streams.show_document(
            outcome_document(
                "plot", out=str(out), marks=picture.marks.value, series=len(picture.series),
                points=points, missing=list(picture.missing),
            )
        )  # fmt: skip
        return
    from orchestrator.views.text import count

    streams.show(
        f"{out}: {count(points, 'point')} in {count(len(picture.series), 'series', 'series')}"
    )
    if picture.missing:
        streams.say(
            f"{count(len(picture.missing), 'job')} without a value: not in the picture", "yellow"
        )
