"""Every format that was ever released is read by this orch, byte for byte."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from checkpoints.manifest import FORMAT, VERSION, Manifest
from tests.unit.checkpoints.fake_attempt import assert_loads, open_store

ROOT = Path(__file__).parents[3]
RELEASED = sorted((ROOT / "tests/fixtures/checkpoints").glob("v*/step-*"))
PAGE = (ROOT / "docs/checkpoint-format.md").read_text()


def test_every_version_has_a_fixture() -> None:
    """A format without one could break unseen."""
    assert [path.parent.name for path in RELEASED] == [f"v{n}" for n in range(1, VERSION + 1)]


@pytest.mark.parametrize("released", RELEASED, ids=lambda path: path.parent.name)
def test_a_released_checkpoint_is_verified_and_loads(tmp_path: Path, released: Path) -> None:
    """It is found, verified, and every rank's bytes are those that were saved."""
    shutil.copytree(released, tmp_path / "checkpoints" / released.name)
    opened = open_store(tmp_path / "checkpoints").latest_verified(pytest.fail)
    assert opened is not None
    assert opened.name == released.name
    assert_loads(opened)


def test_the_page_describes_every_field_of_the_manifest() -> None:
    """A field that is not described cannot be written by a second implementation."""
    described = {
        name
        for row in re.findall(r"^\| (`[a-z_`, ]+`) \|", PAGE, re.MULTILINE)
        for name in re.findall(r"[a-z_]+", row)
    }
    assert described == {*Manifest.model_fields, "manifest_digest"}
    assert f'"{FORMAT}"' in PAGE
    assert f"version {VERSION}" in PAGE.splitlines()[0]
