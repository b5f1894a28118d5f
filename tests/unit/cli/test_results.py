"""`orch results` with its pivot, on a state directory with a real database."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs.contract.paths import StateDir
from jobs.contract.records import EpochRecord, Overrides
from orchestrator.cli.exits import Exit
from tests.unit.cli.conftest import Outcome
from tests.unit.cli.state import job_id, write_result, write_state

Orch = Callable[..., Outcome]


@pytest.fixture
def study(home: Path) -> StateDir:
    """Write three jobs that differ in their learning rate; the third has failed."""
    state = write_state(home, {1: "COMPLETED", 2: "COMPLETED", 3: "FAILED"}, attempts=2)
    for number in (1, 2):
        groups = {"category": {"title_generation": {"rougeL": number / 10}}}
        write_result(home, number, metrics={"test": {"loss": number + 0.5, **groups}})
    return state


def claim(state: StateDir, number: int, epoch: int, host: str, ranks: int | None = None) -> None:
    """Write the claim of an attempt."""
    record = EpochRecord(
        epoch=epoch, token="t", scheduler="local", scheduler_id="1", host=host, boot_id="b",
        pid=1, pid_start=1, started_at=0.0, overrides=Overrides(ranks=ranks),
    )  # fmt: skip
    path = state.job(job_id(number)).epoch(epoch)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(record.model_dump_json().encode())


@pytest.mark.usefixtures("study")
def test_a_pivot_of_stored_results(orch: Orch) -> None:
    """Short keys, and the failed job's cell stays."""
    shown = orch("results", "--rows", "lr", "--metric", "loss")

    assert shown.code == Exit.OK
    assert [line.split() for line in shown.out.splitlines()] == [
        ["lr", "test.loss"],
        ["0.001", "1.5", "(1)"],
        ["0.002", "2.5", "(1)"],
        ["0.003", "missing", "(0", "of", "1)"],
    ]
    assert "1 job without a value" in shown.err


@pytest.mark.usefixtures("study")
def test_scores_of_groups_are_keys_like_others(orch: Orch) -> None:
    """One row a category; the plain listing leaves them out, the CSV does not."""
    shown = orch(
        "results", "--rows", "metric", "--columns", "lr", "--metric", "test.category.*", "--json"
    )

    assert [cell["metric"] for cell in shown.document["cells"]] == [
        "test.category.title_generation.rougeL"
    ] * 3
    assert [cell["mean"] for cell in shown.document["cells"]] == [0.1, 0.2, None]
    assert "category" not in orch("results").out
    assert "test.category.title_generation.rougeL" in orch("results", "--csv").out


@pytest.mark.usefixtures("study")
def test_filters_narrow_the_listing_too(orch: Orch) -> None:
    """And a filter that nothing matches says so."""
    kept = list(csv.DictReader(io.StringIO(orch("results", "--where", "lr>0.001", "--csv").out)))
    assert [row["train.lr"] for row in kept] == ["0.002", "0.003"]

    assert orch("results", "--where", "lr=7").code == Exit.NOT_FOUND


@pytest.mark.usefixtures("study")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--rows", "lr"], "a pivot needs a metric"),
        (["--metric", "loss"], "a pivot needs rows"),
        (["--rows", "lrr", "--metric", "loss"], "near: train.lr"),
        (["--rows", "seed", "--metric", "loss", "--over", "attempts"], "also differ in train.lr"),
        (["--rows", "seed", "--metric", "loss"], "asked for twice"),
        (["--rows", "lr", "--metric", "loss", "--by", "loss"], "--best"),
        (["--rows", "state", "--metric", "steps", "--best", "lr"], "is not known"),
        (["--where", "lr"], "no filter"),
        (["--csv", "--latex"], "exclude each other"),
        (["--rows", "lr", "--metric", "loss", "--fidelity"], "single jobs"),
    ],
)
def test_wrong_questions_name_the_fix(orch: Orch, words: list[str], said: str) -> None:
    """Exit 2, in words, and nothing on stdout."""
    shown = orch("results", *words)

    assert (shown.code, shown.out) == (Exit.USAGE, "")
    assert said in shown.err


def test_fidelity_says_where_each_job_ran(orch: Orch, study: StateDir) -> None:
    """Distinct world sizes and hosts of its attempts, from the claims."""
    claim(study, 1, 1, "n1")
    claim(study, 1, 2, "n2", ranks=4)
    claim(study, 2, 1, "n1")

    jobs = orch("results", "--fidelity", "--json").document["jobs"]

    assert [(one["world_sizes"], one["hosts"]) for one in jobs] == [
        ([1, 4], ["n1", "n2"]), ([1], ["n1"]), ([], []),
    ]  # fmt: skip
    assert "HOSTS" in orch("results", "--fidelity").out
    assert "HOSTS" not in orch("results").out
    assert len(orch("results", "--where", "hosts=n1", "--json").document["jobs"]) == 1


@pytest.mark.usefixtures("study")
@pytest.mark.parametrize("form", ["--markdown", "--latex"])
def test_tables_for_papers(orch: Orch, form: str) -> None:
    """Of the listing and of a pivot; stdout holds the table only."""
    for words in ([], ["--rows", "lr", "--metric", "loss"]):
        out = orch("results", *words, form).out
        assert out.startswith("| " if form == "--markdown" else "\\begin{tabular}")
        assert "metric" not in out.splitlines()[-1]


def test_a_pivot_of_an_empty_place_is_an_empty_document(orch: Orch) -> None:
    """A script need not care whether anything was submitted yet."""
    shown = orch("results", "--rows", "lr", "--metric", "loss", "--json")

    assert json.loads(shown.out) == {"schema_version": 1, "cells": []}
