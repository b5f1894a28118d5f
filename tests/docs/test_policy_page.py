"""docs/policy.md says what the policy does: classes, budgets and their defaults."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from jobs.spec import RetrySpec
from orchestrator.facts import EndClass
from orchestrator.policy import BUDGETS

PAGE = (Path(__file__).parents[2] / "docs" / "policy.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.splitlines()
    if line.startswith("| ") and not line.startswith("| observation")
]


def test_each_class_has_its_row() -> None:
    """And no row has a class that does not exist."""
    classes = [row[1].strip("`") for row in ROWS if row[1] != "poison"]

    assert sorted(classes) == sorted(EndClass)


@pytest.mark.parametrize("end_class", list(BUDGETS))
def test_each_budget_has_its_key_and_default(end_class: EndClass) -> None:
    """As `RetrySpec` has them."""
    (row,) = [row for row in ROWS if row[1] == f"`{end_class}`"]
    key = BUDGETS[end_class]

    assert row[3].startswith(f"`{key}`")
    assert row[4].split(";")[0] == str(RetrySpec.model_fields[key].default)


def test_every_key_of_retry_is_explained() -> None:
    """What can be set is described where its effect is."""
    named = set(re.findall(r"`([a-z_]+)`", PAGE))

    assert set(RetrySpec.model_fields) <= named
