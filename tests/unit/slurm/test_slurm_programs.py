"""Slurm's commands are found by absolute paths, and nothing near us is taken for one."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.schedulers.choice import slurm_missing
from orchestrator.schedulers.slurm_commands import Broken, Ran, run
from orchestrator.schedulers.slurm_programs import find_program


def write(folder: Path, words: str, name: str = "squeue") -> Path:
    """Make a command that says something."""
    folder.mkdir(exist_ok=True)
    program = folder / name
    program.write_text(f"#!/bin/sh\necho {words}\n")
    program.chmod(0o755)
    return program


@pytest.mark.parametrize("entry", ["", ".", "bin", "./bin"])
def test_a_command_in_the_working_directory_is_never_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry: str
) -> None:
    """An empty entry of PATH means the working directory to a shell; to us it means nothing."""
    write(tmp_path, "planted")
    write(tmp_path / "bin", "planted")
    real = write(tmp_path / "slurm", "real")
    monkeypatch.chdir(tmp_path)

    monkeypatch.setenv("PATH", f"{entry}:{tmp_path}/slurm:/bin")
    said = run(["squeue"], seconds=5.0)
    assert isinstance(said, Ran)
    assert said.out == "real\n"
    assert find_program("squeue") == str(real)

    monkeypatch.setenv("PATH", f"{entry}:/nowhere")
    said = run(["squeue"], seconds=5.0)
    assert isinstance(said, Broken)
    assert (said.reason, said.started) == ("squeue: not on PATH", False)
    assert "squeue" in (slurm_missing() or "")


def test_it_is_resolved_once_and_anew_when_it_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A watcher that runs for weeks survives an upgrade of Slurm, and no late file comes before."""
    old = write(tmp_path / "old", "old")
    monkeypatch.setenv("PATH", f"{tmp_path}/new:{tmp_path}/old")
    assert find_program("squeue") == str(old)
    new = write(tmp_path / "new", "new")

    assert find_program("squeue") == str(old)
    old.unlink()
    assert find_program("squeue") == str(new)


def test_what_cannot_be_run_is_no_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory or a file without its x bit is passed over, as a shell does."""
    (tmp_path / "a" / "squeue").mkdir(parents=True)
    write(tmp_path / "b", "b").chmod(0o644)
    good = write(tmp_path / "c", "c")
    monkeypatch.setenv("PATH", f"{tmp_path}/a:{tmp_path}/b:{tmp_path}/c")

    assert find_program("squeue") == str(good)
    assert find_program("./squeue") is None
