"""A submission that dies while it copies the users' code: the next one has it whole."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from durable.fault_points import FAULT_POINTS as PRIMITIVES
from jobs.contract.paths import StateDir
from jobs.matrix import load_matrix
from jobs.snapshot import snapshot_digest

pytestmark = pytest.mark.crash

ROOT = Path(__file__).parent.parent.parent
MATRIX = """\
version: 1
name: cmd
defaults:
  command: {argv: [./run.sh], code: [run.sh, lib]}
"""
CHILD = """\
import sys
from pathlib import Path
from jobs.contract.paths import StateDir
from jobs.matrix import load_matrix
from orchestrator.snapshots import publish_snapshots
publish_snapshots(StateDir(Path(".orch").absolute()), load_matrix(Path("m.yaml")).jobs)
"""
POINTS = ["snapshot.copied", *(name for name in PRIMITIVES if name.startswith("publish_dir."))]


def publish(folder: Path, fault: str = "") -> int:
    """Publish the snapshot from a process of its own; return its exit code."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "ORCH_FAULT": fault}
    done = subprocess.run([sys.executable, "-c", CHILD], cwd=folder, env=environment, timeout=60)
    return done.returncode


@pytest.mark.parametrize("name", POINTS)
def test_a_snapshot_is_whole_or_not_there(tmp_path: Path, name: str) -> None:
    """Killed at any point of it, the code has its name only if it is complete."""
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "a.py").write_text("A = 1\n")
    (tmp_path / "run.sh").write_text("#!/bin/sh\n")
    (tmp_path / "m.yaml").write_text(MATRIX)
    (tmp_path / ".orch").mkdir(mode=0o700)
    digest = load_matrix(tmp_path / "m.yaml").jobs[0].semantic.code_digest
    assert digest is not None
    directory = StateDir(tmp_path / ".orch").snapshot(digest)

    assert publish(tmp_path, f"{name}:kill") == -9
    if directory.exists():
        assert snapshot_digest(directory) == digest
    assert publish(tmp_path) == 0

    assert snapshot_digest(directory) == digest
