"""A store in a directory of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from checkpoints.store import CheckpointStore
from tests.unit.checkpoints.fake_attempt import open_store


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    """An empty store below a job's directory."""
    return open_store(tmp_path / "job" / "checkpoints")
