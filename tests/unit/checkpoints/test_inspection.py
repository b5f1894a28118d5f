"""`python -m checkpoints`: a person sees what is there and what is broken; nothing is changed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from checkpoints.__main__ import main
from checkpoints.inspection import checkpoint_paths, deep, findings
from checkpoints.store import CheckpointStore
from tests.unit.checkpoints.fake_attempt import save


@pytest.fixture
def job(store: CheckpointStore) -> Path:
    """A job's directory with two good checkpoints."""
    save(store, step=10)
    save(store, step=20)
    return store.root.parent


def tree(directory: Path) -> set[str]:
    """Return every path below a directory."""
    return {str(path.relative_to(directory)) for path in directory.rglob("*")}


@pytest.mark.parametrize("verb", ["ls", "verify"])
@pytest.mark.parametrize("place", [".", "checkpoints"])
def test_good_checkpoints(
    job: Path, capsys: pytest.CaptureFixture[str], verb: str, place: str
) -> None:
    """Newest first, one line each, exit code 0."""
    assert main([verb, str(job / place)]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("step-00000020.e0001  ok  periodic, 2 ranks, 8 files,")
    assert second.startswith("step-00000010.e0001  ok")


def test_verify_reads_contents_and_ls_does_not(
    job: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A flipped bit is invisible in sizes; verify finds it, exits with 1 and moves nothing."""
    path = job / "checkpoints/step-00000020.e0001/rank-00001/model.safetensors"
    path.write_bytes(path.read_bytes()[::-1])
    before = tree(job)
    assert main(["ls", str(job)]) == 0
    assert main(["verify", str(job)]) == 1
    assert "step-00000020.e0001  BROKEN  rank-00001/model.safetensors" in capsys.readouterr().out
    assert tree(job) == before


def test_ls_finds_what_can_be_seen_without_reading(
    job: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A missing file is seen at once."""
    (job / "checkpoints/step-00000010.e0001/rank-00001/rng.json").unlink()
    assert main(["ls", str(job)]) == 1
    assert "BROKEN  rank-00001/rng.json: is missing" in capsys.readouterr().out


def test_one_that_is_pruned_meanwhile_is_not_broken(job: Path) -> None:
    """A person may look while the job runs."""
    paths = checkpoint_paths(job)
    shutil.rmtree(paths[1])
    assert [finding.name for finding in findings(paths, deep)] == ["step-00000020.e0001"]


def test_one_checkpoint_alone(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """DIR may be a single checkpoint, also one that lies in quarantine or was copied away."""
    assert main(["verify", str(job / "checkpoints/step-00000010.e0001")]) == 0
    assert capsys.readouterr().out.count("\n") == 1


def test_quarantine_is_listed_with_its_reason(
    job: Path, store: CheckpointStore, capsys: pytest.CaptureFixture[str]
) -> None:
    """What lies there is known and done with: it does not make the exit code 1."""
    store.quarantine("step-00000020.e0001", "attempts die from it\x1b[2J")
    assert main(["ls", str(job)]) == 0
    output = capsys.readouterr().out
    assert "quarantine/step-00000020.e0001.0: attempts die from it\\x1b[2J\n" in output
    (job / "checkpoints/quarantine/step-00000020.e0001.0/QUARANTINE.json").unlink()
    main(["ls", str(job)])
    assert "no readable QUARANTINE.json" in capsys.readouterr().out


def test_a_hostile_file_name_cannot_move_the_cursor(
    job: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Names of files that are not ours are printed escaped."""
    (job / "checkpoints/step-00000010.e0001/\x1b]0;owned\n").touch()
    assert main(["ls", str(job)]) == 1
    output = capsys.readouterr().out
    assert "\x1b" not in output
    assert len(output.splitlines()) == 2


def test_a_job_without_checkpoints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is broken where nothing is."""
    assert main(["verify", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "no checkpoints\n"


def test_a_directory_that_does_not_exist(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Usage, with the path."""
    assert main(["ls", str(tmp_path / "none")]) == 2
    assert "none: No such file" in capsys.readouterr().err
