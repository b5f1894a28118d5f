"""All checks in the order in which they are shown."""

from __future__ import annotations

from pathlib import Path

from orchestrator.doctor.check import Check
from orchestrator.doctor.cluster import cluster_checks
from orchestrator.doctor.interpreter import interpreter_checks
from orchestrator.doctor.room import room_checks
from orchestrator.doctor.state import state_checks


def examine(home: Path, *, site_file: Path | None = None) -> list[Check]:
    """Return every check for the state directory `home` and the site file that would be used."""
    return [
        *interpreter_checks(),
        *cluster_checks(home, site_file),
        *state_checks(home),
        *room_checks(home, site_file),
    ]
