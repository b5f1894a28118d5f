"""Fixtures of Slurm's unit tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.slurm.command_stubs import CommandStubs


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CommandStubs:
    """Slurm's commands, replaced."""
    return CommandStubs(tmp_path / "bin", monkeypatch)
