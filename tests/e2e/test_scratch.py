"""With `scratch_root`, checkpoints lie on scratch; a purge costs steps, never the result."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from jobs.contract.records import Outcome as Ending
from tests.e2e.comparison import bench, outcome, uninterrupted
from worker.forkserver import ForkServer

pytestmark = pytest.mark.e2e


def test_checkpoints_on_scratch_resume_and_a_purge_is_said(
    tmp_path: Path, fork_server: ForkServer
) -> None:
    """Resumed from scratch; purged, it starts anew and says so; the result is the same bits."""
    changes = {"engine__ranks": 2}
    whole = uninterrupted(tmp_path, fork_server, **changes)
    scratch = tmp_path / "scratch"
    job = bench(tmp_path, "job", fork_server, **changes)
    job.site = job.site.model_copy(update={"scratch_root": str(scratch)})
    job.submit()

    assert job.attempt(stop_at=5).exit_code == 75
    assert job.job.checkpoints.is_symlink()
    place = job.job.checkpoints.resolve()
    assert place.is_relative_to(scratch)
    assert list(place.glob("step-*/MANIFEST.json"))
    second = job.attempt(stop_at=2)
    assert second.progress.resumed_from is not None
    assert not second.progress.reports

    shutil.rmtree(scratch / "orch")
    third = job.attempt(stop_at=2)
    assert third.progress.resumed_from is None
    assert any("purged" in line for line in third.progress.reports)
    job.until_done(limit=1)

    assert outcome(job) == whole
    assert job.result.exact


def test_two_state_directories_share_no_place_on_scratch(
    tmp_path: Path, fork_server: ForkServer
) -> None:
    """The same job in two state directories has two sets of checkpoints."""
    places = set()
    for name in ("one", "two"):
        job = bench(tmp_path, name, fork_server)
        job.site = job.site.model_copy(update={"scratch_root": str(tmp_path / "scratch")})
        job.submit()
        assert job.attempt(stop_at=2).exit_code == 75
        places.add(job.job.checkpoints.resolve())

    assert len(places) == 2


def test_a_scratch_that_cannot_be_written_is_a_configuration_error(
    tmp_path: Path, fork_server: ForkServer
) -> None:
    """The attempt ends with 78 and names the key of site.yaml; no retry is wasted on it."""
    (tmp_path / "file").write_text("in the way")
    job = bench(tmp_path, "job", fork_server)
    job.site = job.site.model_copy(update={"scratch_root": str(tmp_path / "file")})
    job.submit()

    ended = job.attempt()

    record = ended.exit()
    assert record is not None
    assert (ended.exit_code, record.outcome) == (78, Ending.CONFIGURATION)
    assert record.error is not None
    assert "scratch_root" in record.error.message
