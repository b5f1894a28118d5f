"""Keys and filters: a person writes little, and is never taken to mean something else."""

from __future__ import annotations

import pytest

from orchestrator.tables.filters import BadFilter, parse_filter
from orchestrator.tables.keys import Keys, UnknownKey, short_titles
from tests.unit.tables.made_up import job

JOBS = [
    job(1, 0.5, method__name="lora", train__lr=1e-3, exact=True),
    job(2, 0.6, method__name="adapter", train__lr=1e-4, model__lr=1),
    job(3, None, method__name="ft", train__lr=1e-5),
]
KEYS = Keys(JOBS)


def chosen(written: str) -> list[int]:
    """Return the seeds of the jobs that a filter keeps."""
    one = parse_filter(written, KEYS)
    return [job.settings["seed"] for job in JOBS if one.matches(job)]  # type: ignore[misc]


def test_a_key_may_be_written_short_where_that_is_enough() -> None:
    """Its last part, or several; two that end alike must be written whole."""
    assert KEYS.key("train.lr") == "train.lr"
    assert KEYS.key("name") == "method.name"
    assert KEYS.measured("rougeL") == ["test.rougeL"]
    with pytest.raises(UnknownKey, match=r"train\.lr, model\.lr"):
        KEYS.key("lr")


def test_an_unknown_key_names_what_is_near() -> None:
    """As the matrix does."""
    with pytest.raises(UnknownKey, match=r"near: test\.rougeL"):
        KEYS.key("rouge")
    with pytest.raises(UnknownKey, match="no metric is like"):
        KEYS.measured("dev.*")


def test_a_star_means_all_metrics_like_it() -> None:
    """And metrics only: no setting slips in."""
    assert KEYS.measured("*") == ["test.rougeL"]


@pytest.mark.parametrize(
    ("written", "seeds"),
    [
        ("method.name=lora", [1]),
        ("method.name=lora,ft", [1, 3]),
        ("method.name != lora", [2, 3]),
        ("train.lr=0.001", [1]),
        ("train.lr=1e-3", [1]),
        ("train.lr<=1e-4", [2, 3]),
        ("train.lr>1e-4", [1]),
        ("exact=true", [1]),
        ("exact=", [2, 3]),
        ("test.rougeL>=0.6", [2]),
    ],
)
def test_filters(written: str, seeds: list[int]) -> None:
    """Numbers compare as numbers; a job without the key equals nothing but the empty word."""
    assert chosen(written) == seeds


@pytest.mark.parametrize("written", ["lora", "=lora", "train.lr<fast", "train.lr<1,2"])
def test_what_is_no_filter_is_refused(written: str) -> None:
    """Never taken as a filter that keeps everything."""
    with pytest.raises(BadFilter):
        parse_filter(written, KEYS)


def test_titles_are_short_but_never_equal() -> None:
    """`name` alone says nothing."""
    assert short_titles(["train.lr", "method.name"]) == ["lr", "method.name"]
    assert short_titles(["a.size", "b.size"]) == ["a.size", "b.size"]
