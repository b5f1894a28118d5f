"""Which scheduler serves, and why, for every state that a machine's Slurm can be in."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.schedulers.choice import BackendUnavailable, choose


def put(folder: Path, name: str, script: str) -> None:
    """Put a command on the path."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def install(folder: Path, ping: str) -> None:
    """Put a Slurm on the path whose controller answers `ping`."""
    for name in ("sbatch", "squeue"):
        put(folder, name, "exit 0")
    put(folder, "scontrol", ping)


def test_without_slurm_auto_is_this_machine(path: Path, tmp_path: Path) -> None:
    """The reason names what is missing; asking for slurm is refused with it."""
    choice = choose("auto", home=tmp_path)

    assert choice.scheduler.name == "local"
    assert "sbatch" in choice.reason
    with pytest.raises(BackendUnavailable, match="sbatch"):
        choose("slurm", home=tmp_path)


def test_a_slurm_that_does_not_answer_is_not_chosen(path: Path, tmp_path: Path) -> None:
    """Commands alone are no cluster."""
    install(path, "echo 'Slurmctld(primary) at c is DOWN'")

    choice = choose("auto", home=tmp_path)

    assert choice.scheduler.name == "local"
    assert "DOWN" in choice.reason


def test_a_slurm_that_answers_is_chosen_and_local_work_is_still_served(
    path: Path, tmp_path: Path
) -> None:
    """Jobs that were started here before go on."""
    install(path, "echo 'Slurmctld(primary) at c is UP'")

    choice = choose("auto", home=tmp_path)

    assert choice.scheduler.name == "slurm"
    assert set(choice.others) == {"local"}
    assert choose("local", home=tmp_path).scheduler.name == "local"
