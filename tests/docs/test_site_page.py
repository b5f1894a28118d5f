"""docs/reference/site.md has every key of site.yaml, and its example is one."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from orchestrator.site_schema import Site

PAGE = Path(__file__).parent.parent.parent / "docs" / "reference" / "site.md"


def test_the_page_has_exactly_the_keys_of_the_schema() -> None:
    """A key that is not described cannot be found; a stale one would be refused."""
    keys = re.findall(r"^\| `([a-z_]+)` \|", PAGE.read_text(), re.MULTILINE)

    assert sorted(keys) == sorted(Site.model_fields)


def test_the_example_is_a_valid_site() -> None:
    """People copy examples."""
    example = re.search(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert example

    assert Site.model_validate(yaml.safe_load(example[1])).partition == ("preempt", "low")
