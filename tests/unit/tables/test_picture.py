"""What a picture shows is the table's numbers, each at its place, and nothing vanishes."""

from __future__ import annotations

import pytest

from orchestrator.tables.jobs import independent
from orchestrator.tables.picture import learning_curves, of_pivot, scatter, wants_log
from orchestrator.tables.pivot import Layout, pivot
from tests.unit.tables.made_up import job

ROUGE = ("test.rougeL",)


def test_points_are_the_means_of_the_pivot() -> None:
    """A column is a series; a cell with a missing job is not whole, and names it."""
    jobs = [
        job(1, 0.4, rank=8, method="lora"), job(2, 0.6, rank=8, method="lora"),
        job(1, 0.7, rank=64, method="lora"), job(3, None, rank=64, method="lora"),
        job(1, None, rank=8, method="ft"),
    ]  # fmt: skip
    layout = Layout(rows=("rank",), columns=("method",), metrics=ROUGE)

    picture = of_pivot(pivot(jobs, layout))

    (lora,) = picture.series  # nothing of the other is known
    assert lora.label == "method=lora"
    assert [(p.x, p.y, p.whole) for p in lora.points] == [
        (8, pytest.approx(0.5), True), (64, 0.7, False),
    ]  # fmt: skip
    assert lora.points[0].spread == pytest.approx(0.1414, abs=1e-4)
    assert lora.points[1].spread is None
    assert set(picture.missing) == {jobs[3].id, jobs[4].id}


def test_words_on_the_axis_are_categories() -> None:
    """In the order of the table, at 0, 1, 2 …"""
    jobs = [job(1, 0.4, method="lora"), job(1, 0.5, method="adapter")]

    picture = of_pivot(pivot(jobs, Layout(rows=("method",), metrics=ROUGE)))

    assert picture.names == ("lora", "adapter")
    assert [point.x for point in picture.series[0].points] == [0, 1]


def test_a_scatter_has_one_point_a_job() -> None:
    """No mean, and no job without a place."""
    jobs = [job(n, n / 10, rank=8) for n in (1, 2, 3)] + [job(4, None, rank=8)]

    picture = scatter(jobs, x="rank", y="test.rougeL", by=["rank"])

    assert [point.y for point in picture.series[0].points] == [0.1, 0.2, 0.3]
    assert picture.missing == (jobs[3].id,)


def test_lines_of_one_group_share_their_colour() -> None:
    """One line a job; without `by` every job has its own."""
    jobs = [job(1, 0.5, lr=1), job(2, 0.5, lr=1), job(1, 0.5, lr=2)]
    jobs = [type(j)(id=f"{n}", state=j.state, settings=j.settings) for n, j in enumerate(jobs)]
    rows = {
        "0": [{"step": 1.0, "loss": 3.0}, {"step": 2.0, "dev.loss": 1.0}],
        "1": [{"step": 1.0, "loss": float("nan")}, {"step": 2.0, "loss": 2.0}],
        "2": [],
    }

    picture = learning_curves(jobs, rows, y="loss", by=["lr"])

    assert [(s.label, s.group, [(p.x, p.y) for p in s.points]) for s in picture.series] == [
        ("lr=1", 0, [(1, 3)]), ("lr=1", 0, [(2, 2)]),
    ]  # fmt: skip
    assert picture.missing == ("2",)
    alone = learning_curves(jobs, rows, y="loss", by=[])
    assert [s.label for s in alone.series] == ["seed=1, lr=1", "seed=2, lr=1"]


def test_a_setting_that_follows_another_is_not_named_twice() -> None:
    """Alpha that equals the rank makes labels long and says nothing."""
    jobs = [job(1, rank=8, alpha=8), job(1, rank=64, alpha=64)]

    assert independent(jobs) == ["rank"]


def test_a_wide_positive_span_wants_a_logarithmic_axis() -> None:
    """Never one that begins at or below zero."""
    assert wants_log([1e-5, 1e-3])
    assert not wants_log([1, 2])
    assert not wants_log([0, 1000])
    assert not wants_log([])
