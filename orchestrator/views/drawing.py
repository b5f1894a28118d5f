"""A picture drawn by matplotlib, without any display: bytes of a PNG or PDF.

Colours are Okabe and Ito's, which people with any colour vision tell apart, and every series has
a mark or a dash of its own besides.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from orchestrator.tables.picture import Marks, Picture, Series, wants_log
from orchestrator.views import text

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = "osD^vPX"
_DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.2)), (0, (4, 1.5, 1, 1.5)))
_LEGEND_INSIDE = 6  # longer legends stand beside the picture
_LEGEND_MOST = 40
_TICKS_AT_VALUES = 8
_CHARACTER = 0.025  # width of a digit, as a share of the axis
# Words for axes; every other key is shown as it is written in a matrix.
TITLES = {
    "train.lr": "learning rate",
    "method.rank": "rank",
    "trainable_parameters": "trainable parameters",
    "step": "step (optimizer steps)",
    "task.max_train_examples": "training examples",
}


def draw(picture: Picture, *, form: str, log: str | None, title: str = "", dpi: int = 200) -> bytes:
    """Return the picture's file. `form`: png or pdf; `log`: some of `xy`, None: where it helps.

    Raises ImportError where matplotlib is missing.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context():
        mpl.rcdefaults()  # not the user's matplotlibrc: equal results, equal pictures
        mpl.rcParams.update({"font.size": 10, "pdf.fonttype": 42, "axes.axisbelow": True})
        figure = Figure(figsize=(6.0, 4.0), layout="constrained")
        axes = figure.add_subplot()
        _scale(axes, picture, log)
        for series in picture.series:
            _MARKS[picture.marks](axes, series, picture)
        _label(axes, picture, title)
        _legend(axes, picture)
        out = io.BytesIO()
        figure.savefig(out, format=form, dpi=dpi, metadata=_METADATA.get(form))
    return out.getvalue()


_METADATA = {"pdf": {"CreationDate": None}, "png": {"Software": None}}


def _scale(axes: Any, picture: Picture, log: str | None) -> None:
    xs = picture.xs
    x_log = not picture.names and (
        "x" in log if log is not None else picture.marks is not Marks.CURVES and wants_log(xs)
    )
    y_log = "y" in log if log is not None else False
    if x_log:
        axes.set_xscale("log")
    if y_log:
        axes.set_yscale("log")
    if picture.names:
        axes.set_xticks(range(len(picture.names)), [_plain(name) for name in picture.names])
        axes.margins(x=0.1)
        _turn(axes, picture.names)
    elif picture.marks is Marks.MEANS and ticks_fit(xs, x_log=x_log):
        axes.set_xticks(xs, [f"{x:g}" for x in xs])
        axes.minorticks_off()


def ticks_fit(xs: Sequence[float], *, x_log: bool) -> bool:
    """Return whether a label at each of these places leaves room for its neighbours."""
    if len(xs) > _TICKS_AT_VALUES:
        return False
    places = [math.log(x) for x in xs] if x_log else list(xs)
    widths = [len(f"{x:g}") * _CHARACTER for x in xs]
    span = (places[-1] - places[0]) or 1.0
    return all(
        (right - left) / span > (width + other) / 2 + _CHARACTER
        for (left, right), (width, other) in zip(pairwise(places), pairwise(widths), strict=True)
    )


def _turn(axes: Any, names: Sequence[str]) -> None:
    if sum(map(len, names)) > 50:
        for label in axes.get_xticklabels():
            label.set(rotation=30, ha="right", rotation_mode="anchor")


def _style(series: Series) -> dict[str, Any]:
    """Return colour, mark and dash of a group: the first 28 are all different."""
    lap = series.group // len(COLOURS)
    return {
        "color": COLOURS[series.group % len(COLOURS)],
        "marker": _MARKERS[(series.group + lap) % len(_MARKERS)],
        "linestyle": _DASHES[lap % len(_DASHES)],
    }


def _means(axes: Any, series: Series, picture: Picture) -> None:
    style, points = _style(series), series.points
    groups = max(one.group for one in picture.series) + 1
    if picture.names:
        style["linestyle"] = "none"  # words have no order that a line could follow
    shift = (series.group - (groups - 1) / 2) * (0.5 / groups) if picture.names else 0.0
    xs = [point.x + shift for point in points]
    axes.errorbar(
        xs,
        [point.y for point in points],
        yerr=[math.nan if point.spread is None else point.spread for point in points],
        capsize=3,
        markersize=5,
        linewidth=1.4,
        label=_plain(series.label),
        **style,
    )
    partial = [(x, point.y) for x, point in zip(xs, points, strict=True) if not point.whole]
    if partial:  # hollow: some of its jobs have no value
        axes.plot(
            *zip(*partial, strict=True),
            linestyle="none",
            marker=style["marker"],
            color=style["color"],
            markerfacecolor="white",
            markersize=5,
            zorder=5,
        )


def _points(axes: Any, series: Series, _: Picture) -> None:
    style = _style(series)
    axes.plot(
        [point.x for point in series.points],
        [point.y for point in series.points],
        linestyle="none",
        marker=style["marker"],
        color=style["color"],
        markersize=5,
        markeredgewidth=0.4,
        markeredgecolor="white",
        alpha=0.85,
        label=_plain(series.label),
    )


def _curve(axes: Any, series: Series, picture: Picture) -> None:
    style = _style(series)
    lines = sum(one.group == series.group for one in picture.series)
    first = next(one for one in picture.series if one.group == series.group) is series
    axes.plot(
        [point.x for point in series.points],
        [point.y for point in series.points],
        color=style["color"],
        linestyle=style["linestyle"],
        marker=style["marker"] if len(series.points) == 1 else None,
        linewidth=1.4 if lines == 1 else 1.0,
        alpha=1.0 if lines == 1 else 0.6,
        label=_plain(series.label) if first else "_again",
    )


_MARKS = {Marks.MEANS: _means, Marks.SCATTER: _points, Marks.CURVES: _curve}


def _label(axes: Any, picture: Picture, title: str) -> None:
    axes.set_xlabel(_plain(TITLES.get(picture.x_key, picture.x_key)))
    y_title = TITLES.get(picture.y_key, picture.y_key)
    if picture.marks is Marks.MEANS:
        y_title += f"\nmean ± std over {', '.join(picture.spread_over)}"
    axes.set_ylabel(_plain(y_title))
    if title:
        axes.set_title(_plain(title))
    axes.grid(visible=True, color="#dddddd", linewidth=0.6)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _legend(axes: Any, picture: Picture) -> None:
    handles, labels = axes.get_legend_handles_labels()
    if any(not point.whole for series in picture.series for point in series.points):
        hollow = {"marker": "o", "color": "#555555", "markerfacecolor": "white"}
        handles += axes.plot([], [], linestyle="none", markersize=5, **hollow)
        labels.append("hollow: jobs missing")
    if len(handles) < 2:
        return
    shown, left = handles[:_LEGEND_MOST], len(handles) - _LEGEND_MOST
    words = labels[:_LEGEND_MOST] + ([f"and {left} more"] if left > 0 else [])
    if left > 0:
        shown = [*shown, axes.plot([], [], linestyle="none")[0]]
    if len(shown) <= _LEGEND_INSIDE:
        axes.legend(shown, words, frameon=True, framealpha=0.9, edgecolor="none", fontsize=9)
    else:
        small = 9 if len(shown) <= 14 else 6
        axes.legend(shown, words, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False,
                    fontsize=small)  # fmt: skip


def _plain(words: str) -> str:
    """Return text that matplotlib shows as it is: `$` begins no formula, `_` hides no label."""
    lines = "\n".join(text.clean(line) for line in words.split("\n")).replace("$", r"\$")
    return f" {lines}" if lines.startswith("_") else lines
