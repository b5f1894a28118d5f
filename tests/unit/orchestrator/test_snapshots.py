"""Snapshots in the state directory: content-addressed, read-only, whole or not at all."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from jobs.contract.paths import StateDir
from jobs.matrix import Matrix, load_matrix
from jobs.snapshot import CodeRefused
from orchestrator import snapshots
from orchestrator.snapshots import publish_snapshots

TEXT = """\
version: 1
name: cmd
defaults:
  command: {argv: [./run.sh], code: [run.sh, lib]}
seeds: 3
"""


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A directory with a matrix and its code."""
    (tmp_path / "lib" / "deep").mkdir(parents=True)
    (tmp_path / "lib" / "deep" / "a.py").write_text("A = 1\n")
    (tmp_path / "run.sh").write_text("#!/bin/sh\n")
    (tmp_path / "run.sh").chmod(0o755)
    (tmp_path / "m.yaml").write_text(TEXT)
    return tmp_path


@pytest.fixture
def matrix(base: Path) -> Matrix:
    """The matrix."""
    return load_matrix(base / "m.yaml")


@pytest.fixture
def state(base: Path) -> StateDir:
    """A state directory."""
    (base / ".orch").mkdir(mode=0o700)
    return StateDir(base / ".orch")


def test_jobs_of_equal_code_share_one_read_only_copy(state: StateDir, matrix: Matrix) -> None:
    """Three seeds, one snapshot; what may be executed still may."""
    publish_snapshots(state, matrix.jobs)
    publish_snapshots(state, matrix.jobs)

    (directory,) = state.code.iterdir()
    assert directory == state.snapshot(matrix.jobs[0].semantic.code_digest or "")
    assert (directory / "lib/deep/a.py").read_text() == "A = 1\n"
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in directory.rglob("*")}
    assert modes == {"run.sh": 0o500, "lib": 0o500, "deep": 0o500, "a.py": 0o400}


def test_code_that_changed_since_the_matrix_was_read_is_refused(
    base: Path, state: StateDir, matrix: Matrix
) -> None:
    """The digest in the spec would be a lie; nothing is left behind."""
    (base / "run.sh").write_text("#!/bin/sh\nexit 3\n")

    with pytest.raises(CodeRefused, match="changed while it was being submitted"):
        publish_snapshots(state, matrix.jobs)
    assert not state.code.exists()


def test_code_that_changes_while_it_is_copied_is_refused(
    base: Path, state: StateDir, matrix: Matrix, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was copied counts, not what was hashed a moment before."""
    real = snapshots.collect

    def edited_afterwards(*words: object) -> object:
        files = real(*words)  # type: ignore[arg-type]
        (base / "lib/deep/a.py").write_text("A = 2\n")
        return files

    monkeypatch.setattr(snapshots, "collect", edited_afterwards)

    with pytest.raises(CodeRefused):
        publish_snapshots(state, matrix.jobs)
    assert list(state.code.iterdir()) == []


def test_a_tampered_snapshot_is_not_handed_to_new_jobs(state: StateDir, matrix: Matrix) -> None:
    """A second submission sees it at once."""
    publish_snapshots(state, matrix.jobs)
    (directory,) = state.code.iterdir()
    file = directory / "lib/deep/a.py"
    file.chmod(0o600)
    file.write_text("A = 3\n")

    with pytest.raises(CodeRefused, match="somebody changed it"):
        publish_snapshots(state, matrix.jobs)
