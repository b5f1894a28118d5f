"""`orch plot`: files that are pictures, and words where none can be drawn."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs.contract.paths import StateDir
from orchestrator.cli.exits import Exit
from orchestrator.curves import read_curve
from orchestrator.tables.picture import Marks, Picture, Point, Series
from orchestrator.views.drawing import draw, ticks_fit
from tests.unit.cli.conftest import Outcome
from tests.unit.cli.state import job_id, write_result, write_state

Orch = Callable[..., Outcome]


@pytest.fixture
def study(home: Path) -> StateDir:
    """Write three jobs that differ in their learning rate; the third has failed."""
    state = write_state(home, {1: "COMPLETED", 2: "COMPLETED", 3: "FAILED"})
    write_result(home, 1)
    write_result(home, 2)
    return state


def write_rows(path: Path, *rows: object) -> None:
    """Write a metrics.jsonl with a torn last line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 9')


@pytest.mark.usefixtures("study")
@pytest.mark.parametrize(("name", "magic"), [("p.png", b"\x89PNG"), ("p.pdf", b"%PDF")])
def test_a_picture_is_a_file_of_its_kind(
    orch: Orch, tmp_path: Path, name: str, magic: bytes
) -> None:
    """What is missing is said; drawn again, it is the same file byte for byte."""
    words = ("plot", "--x", "lr", "--y", "loss", "--out", name)

    shown = orch(*words)
    first = (tmp_path / name).read_bytes()

    assert shown.code == Exit.OK
    assert "1 job without a value" in shown.err
    assert first.startswith(magic)
    assert orch(*words).code == Exit.OK
    assert (tmp_path / name).read_bytes() == first


@pytest.mark.usefixtures("study")
def test_the_document_names_missing_jobs(orch: Orch) -> None:
    """For scripts that must not publish half a picture."""
    shown = orch("plot", "--x", "lr", "--y", "loss", "--scatter", "--out", "p.png", "--json")

    assert shown.document == {
        "schema_version": 1, "verb": "plot", "out": "p.png", "marks": "scatter", "series": 1,
        "points": 2, "missing": [job_id(3)],
    }  # fmt: skip


def test_curves_also_of_jobs_that_are_not_over(orch: Orch, study: StateDir) -> None:
    """The published curve, else each step from its highest attempt."""
    write_rows(study.job(job_id(1)).metrics, {"step": 1, "loss": 2, "dev": {"loss": 3}})
    failed = study.job(job_id(3))
    write_rows(failed.attempt(1).metrics, {"step": 1, "loss": 5}, {"step": 2, "loss": 4})
    write_rows(failed.attempt(2).metrics, {"step": 2, "loss": 3})
    failed.epochs.mkdir()
    for epoch in (1, 2):
        failed.epoch(epoch).write_text("{}")

    assert read_curve(study.job(job_id(1))) == [{"step": 1, "loss": 2, "dev.loss": 3}]
    assert read_curve(failed) == [{"step": 1, "loss": 5}, {"step": 2, "loss": 3}]
    shown = orch("plot", "--curve", "loss", "--out", "c.png", "--json").document
    assert (shown["series"], shown["points"], shown["missing"]) == (2, 3, [job_id(2)])
    assert "there are: dev.loss, loss" in orch("plot", "--curve", "x", "--out", "c.png").err


@pytest.mark.usefixtures("study")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--x", "lr", "--y", "loss", "--out", "p.jpg"], ".png or .pdf"),
        (["--x", "lr", "--out", "p.png"], "--x KEY --y NAME"),
        (["--curve", "loss", "--x", "lr", "--out", "p.png"], "against steps"),
        (["--x", "lr", "--y", "loss", "--log", "z", "--out", "p.png"], "no such axes"),
        (["--x", "lr", "--y", "preemptions", "--log", "y", "--out", "p.png"], "0 or less"),
        (["--x", "lr", "--y", "loss", "--scatter", "--best", "seed", "--out", "p.png"], "means"),
        (["--x", "attempts", "--y", "loss", "--out", "p.png"], "also differ in train.lr"),
    ],
)
def test_wrong_questions_name_the_fix(
    orch: Orch, tmp_path: Path, words: list[str], said: str
) -> None:
    """And leave no file."""
    shown = orch("plot", *words)

    assert shown.code == Exit.USAGE
    assert said in shown.err
    assert not list(tmp_path.glob("p.*"))


@pytest.mark.usefixtures("study")
def test_without_matplotlib_the_extra_is_named(orch: Orch, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no part of a plain installation."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)

    shown = orch("plot", "--x", "lr", "--y", "loss", "--out", "p.png")

    assert shown.code == Exit.FAILED
    assert "pip install 'orch[plot]'" in shown.err


def test_names_are_no_formulas() -> None:
    """P11: a label with unbalanced marks, or one that would hide its line, is shown as it is."""
    lines = tuple(
        Series(label=label, points=(Point(x=1, y=1), Point(x=2, y=2)), group=n)
        for n, label in enumerate(["a $x_{1", "_hidden", "\\frac", "\x1b[31mred"])
    )
    picture = Picture(marks=Marks.CURVES, series=lines, x_key="$^", y_key="_y")

    assert draw(picture, form="png", log=None, title="$\\bad{").startswith(b"\x89PNG")


def test_ticks_at_values_only_where_their_labels_have_room() -> None:
    """Labels on top of each other cannot be read."""
    assert ticks_fit([8, 64, 512], x_log=True)
    assert not ticks_fit([65536, 98304, 524288, 786432, 4194304, 6291456], x_log=True)
    assert not ticks_fit([8, 16, 512], x_log=False)
