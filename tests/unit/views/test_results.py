"""`orch results`: the rows must be comparable, on screen and in a spreadsheet."""

from __future__ import annotations

import csv
import io

from jobs.states import JobState
from orchestrator.views.results import axis_keys, missing_line, result_table, results_csv
from orchestrator.views.table import plain_lines
from tests.unit.views.made_up import result

S = JobState


def test_only_keys_in_which_jobs_differ_are_columns() -> None:
    """A key that is the same everywhere says nothing; for one job all are shown."""
    rows = [result(1), result(2)]

    assert axis_keys(rows) == ["train.lr"]
    assert axis_keys(rows[:1]) == ["train.lr", "seed"]


def test_a_row_shows_axis_metrics_exactness_attempts_and_digest() -> None:
    """Everything that the verb promises must be in the row."""
    rows = [result(1, attempts=3, preemptions=2), result(2, S.FAILED)]

    title, first, second = plain_lines(result_table(rows, width=None))

    assert title.split()[:3] == ["JOB", "train.lr", "STATE"]
    assert "test loss" in title
    assert first.split() == [
        "quickstart-0001", "0.001", "COMPLETED", "1.25", "0.5", "yes", "3", "(2", "preempted)",
        "0" * 12,
    ]  # fmt: skip
    assert second.split() == ["quickstart-0002", "0.002", "FAILED", "1"]


def test_equal_tails_of_keys_stay_apart() -> None:
    """Two axes that end in the same word must show their whole keys."""
    rows = [
        result(1, axes={"model.config.size": 1, "method.size": 1}),
        result(2, axes={"model.config.size": 2, "method.size": 2}),
    ]

    title = next(iter(plain_lines(result_table(rows, width=80))))

    assert "model.config.size" in title
    assert "method.size" in title


def test_jobs_of_many_kinds_show_what_they_all_have() -> None:
    """Dozens of columns, each for some of the jobs, would hide the metrics; CSV has them all."""
    one = {"method.name": "lora", **{f"method.a{n}": n for n in range(6)}, "method.b0": None}
    two = {"method.name": "prefix", **{f"method.b{n}": n for n in range(6)}}
    rows = [result(1, axes=one), result(2, axes=two)]

    title, *_ = plain_lines(result_table(rows, width=None))

    assert title.split()[:3] == ["JOB", "method.name", "STATE"]
    assert "method.a5" in results_csv(rows)


def test_missing_results_are_counted() -> None:
    """A reader must not take a partial table for a whole one."""
    assert missing_line([result(1), result(2, S.RUNNING)]) == "1 job of 2 without result"
    assert missing_line([result(1)]) == ""


def test_csv_has_every_axis_and_every_metric() -> None:
    """The CSV must hold what the table abbreviates: whole digests, all splits."""
    rows = [
        result(1, metrics={"dev": {"loss": 2.0}, "test": {"loss": 1.0}}),
        result(2, S.FAILED),
    ]

    table = list(csv.DictReader(io.StringIO(results_csv(rows))))

    assert table[0]["dev.loss"] == "2.0"
    assert table[0]["test.loss"] == "1.0"
    assert table[0]["train.lr"] == "0.001"
    assert table[0]["weights_digest"] == f"sha256:{1:064x}"
    assert table[0]["exact"] == "true"
    assert table[1]["test.loss"] == table[1]["exact"] == ""


def test_a_spreadsheet_never_sees_a_formula() -> None:
    """Inputs are data: a value that begins like a formula must be defused; numbers stay numbers."""
    rows = [
        result(1, axes={"task.path": "=HYPERLINK(1)", "x": -1}),
        result(2, axes={"task.path": "b", "x": -2}),
    ]

    table = list(csv.DictReader(io.StringIO(results_csv(rows))))

    assert table[0]["task.path"] == "'=HYPERLINK(1)"
    assert table[0]["x"] == "-1"
