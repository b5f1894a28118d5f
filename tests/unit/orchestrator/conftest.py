"""Fixtures of the orchestrator's unit tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.orchestrator.world import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A fresh state directory."""
    return World(tmp_path / "home")
