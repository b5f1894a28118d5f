"""The pivot: means over repetitions only, and nobody is left out of one in silence."""

from __future__ import annotations

import math
import random
import statistics

import numpy as np
import pytest

from orchestrator.tables.directions import Better, known_direction
from orchestrator.tables.pivot import METRIC, Layout, Mixed, Undirected, ordered, pivot
from orchestrator.tables.statistics import summarize
from tests.unit.tables.made_up import job

ROUGE = ("test.rougeL",)


def test_mean_and_spread_are_those_of_the_reference_libraries() -> None:
    """The sample standard deviation (n - 1), on values of very different sizes."""
    source = random.Random(1)
    for n in range(2, 60):
        values = [source.gauss(10 ** source.uniform(-6, 6), 1) for _ in range(n)]
        found = summarize(values)
        assert found.mean is not None
        assert found.mean == pytest.approx(statistics.fmean(values), rel=1e-12)
        assert found.mean == pytest.approx(float(np.mean(values)), rel=1e-12)
        assert found.std == statistics.stdev(values)
        assert found.std == pytest.approx(float(np.std(values, ddof=1)), rel=1e-9)


def test_one_value_has_no_spread_and_none_has_no_mean() -> None:
    """A spread of 0 from one seed would be a lie."""
    assert (summarize([0.5]).mean, summarize([0.5]).std) == (0.5, None)
    assert (summarize([]).n, summarize([]).mean) == (0, None)


def test_a_job_without_a_value_is_counted_in_its_cell() -> None:
    """n of the mean is 2, and the cell says that there are 3 and which one is missing."""
    jobs = [job(1, 0.5, rank=8), job(2, 0.7, rank=8), job(3, None, rank=8)]

    cell = pivot(jobs, Layout(rows=("rank",), metrics=ROUGE)).cells[(8,), ()]

    assert (cell.summary.n, cell.jobs) == (2, 3)
    assert cell.summary.mean == pytest.approx(0.6)
    assert [one.id for one in cell.missing] == [jobs[2].id]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_value_that_is_no_number_is_missing(value: float) -> None:
    """One diverged seed neither makes the mean nan nor vanishes."""
    jobs = [job(1, 0.5, rank=8), job(2, value, rank=8)]

    cell = pivot(jobs, Layout(rows=("rank",), metrics=ROUGE)).cells[(8,), ()]

    assert (cell.summary.mean, cell.summary.n, cell.jobs) == (0.5, 1, 2)


def test_a_combination_that_nobody_submitted_has_no_cell() -> None:
    """That is another thing than a cell whose jobs have all failed."""
    jobs = [job(1, 0.5, rank=8, lr=1e-3), job(2, None, rank=64, lr=1e-4)]

    found = pivot(jobs, Layout(rows=("rank",), columns=("lr",), metrics=ROUGE))

    assert found.rows == ((8,), (64,))
    assert found.columns == ((1e-4,), (1e-3,))
    assert set(found.cells) == {((8,), (1e-3,)), ((64,), (1e-4,))}
    assert found.cells[(64,), (1e-4,)].summary.mean is None


def test_jobs_that_are_no_repetitions_are_never_averaged() -> None:
    """A mean over two learning rates is refused, unless that is what is asked for."""
    jobs = [job(1, 0.5, lr=1e-3, rank=8), job(1, 0.7, lr=1e-4, rank=8)]

    with pytest.raises(Mixed, match="rank=8 also differ in lr") as caught:
        pivot(jobs, Layout(rows=("rank",), metrics=ROUGE))

    assert caught.value.keys == ("lr",)
    over = pivot(jobs, Layout(rows=("rank",), metrics=ROUGE, over=("lr",)))
    assert over.cells[(8,), ()].summary.mean == pytest.approx(0.6)


def test_a_setting_that_follows_the_row_is_no_obstacle() -> None:
    """Alpha equals the rank in every cell: nothing is mixed."""
    jobs = [job(n, 0.5, rank=rank, alpha=rank) for n in (1, 2) for rank in (8, 64)]

    found = pivot(jobs, Layout(rows=("rank",), metrics=ROUGE))

    assert [found.cells[row, ()].summary.n for row in found.rows] == [2, 2]


def test_the_best_setting_is_chosen_by_one_metric_and_shown_by_another() -> None:
    """Chosen by dev, the test score of that setting is shown, even where another has a better."""

    def measured(seed: int, lr: float, dev: float, test: float):  # type: ignore[no-untyped-def]
        one = job(seed, test, lr=lr)
        return type(one)(
            id=one.id, state=one.state, settings=one.settings,
            metrics={**one.metrics, "dev.loss": dev},
        )  # fmt: skip

    jobs = [
        measured(1, 1e-3, 0.2, 0.5), measured(2, 1e-3, 0.4, 0.7),
        measured(1, 1e-4, 0.9, 0.8), measured(2, 1e-4, 0.9, 0.9),
    ]  # fmt: skip

    layout = Layout(rows=(), metrics=ROUGE, best=("lr",), by="dev.loss")
    cell = pivot(jobs, layout).cells[(), ()]

    assert cell.chosen == {"lr": 1e-3}  # the lower loss
    assert cell.summary.mean == pytest.approx(0.6)
    assert (cell.candidates, cell.incomplete) == (2, 0)


def test_a_choice_among_settings_with_missing_values_says_so() -> None:
    """What has not run may have been the best."""
    jobs = [job(1, 0.5, lr=1e-3), job(1, None, lr=1e-4)]

    cell = pivot(jobs, Layout(rows=(), metrics=ROUGE, best=("lr",))).cells[(), ()]

    assert cell.chosen == {"lr": 1e-3}
    assert (cell.candidates, cell.incomplete) == (2, 1)


def test_a_cell_in_which_nothing_is_done_chooses_nothing() -> None:
    """All its jobs are missing."""
    jobs = [job(1, None, lr=1e-3), job(2, None, lr=1e-4)]

    cell = pivot(jobs, Layout(rows=(), metrics=ROUGE, best=("lr",))).cells[(), ()]

    assert (cell.chosen, cell.summary.mean, cell.jobs) == ({}, None, 2)


def test_several_metrics_stand_on_an_axis_of_their_own() -> None:
    """One row a metric: the table of categories."""
    layout = Layout(rows=(METRIC,), metrics=("test.rougeL", "attempts"))

    found = pivot([job(1, 0.5), job(3, 0.7)], layout)

    assert found.rows == (("test.rougeL",), ("attempts",))
    assert found.cells[("attempts",), ()].summary.mean == 2


@pytest.mark.parametrize(
    ("metric", "better"),
    [
        ("test.loss", Better.MIN),
        ("test.accuracy", Better.MAX),
        ("test.category.title_generation.rougeL", Better.MAX),
        ("test.rougeL_for_task1356", Better.MAX),
        ("test.quux", None),
    ],
)
def test_which_end_is_better_is_told_by_the_name(metric: str, better: Better | None) -> None:
    """And a name that does not tell is not guessed."""
    assert known_direction(metric) is better


def test_an_unknown_direction_is_asked_for() -> None:
    """The best of unknown numbers is refused, and found once a person has said it."""
    jobs = [job(1, 5, metric="test.quux", lr=1), job(1, 7, metric="test.quux", lr=2)]

    with pytest.raises(Undirected, match="quux"):
        pivot(jobs, Layout(rows=(), metrics=("test.quux",), best=("lr",)))

    said = Layout(rows=(), metrics=("test.quux",), best=("lr",), better=Better.MIN)
    assert pivot(jobs, said).cells[(), ()].chosen == {"lr": 1}


def test_numbers_ascend_and_words_keep_their_order() -> None:
    """`8, 64, 512`, not as texts; a place without the key comes last."""
    assert ordered([(512,), (None,), (8,), (64,)], ["rank"]) == ((8,), (64,), (512,), (None,))
    assert ordered([("lora",), ("adapter",), ("lora",)], ["method"]) == (("lora",), ("adapter",))
