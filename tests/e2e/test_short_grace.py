"""A grace time shorter than a save: warned of before, left in time, resumed bit-equal."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.contract.records import Outcome as Ending
from jobs.spec import Run
from tests.e2e.comparison import bench, outcome, uninterrupted
from tests.e2e.harness import Bench
from worker.forkserver import ForkServer

pytestmark = pytest.mark.e2e
SHORT = Run.model_validate({"save": {"every_steps": 4, "background": False}, "grace_seconds": 2.0})


@pytest.mark.parametrize("ranks", [1, 2])
def test_the_last_periodic_checkpoint_is_what_remains(
    tmp_path: Path, fork_server: ForkServer, ranks: int
) -> None:
    """Saves of 3 s under a grace of 2 s: no time is left, that is said, and 75 comes at once."""
    changes = {"engine__ranks": ranks}
    whole = uninterrupted(tmp_path, fork_server, **changes)
    semantic = bench(tmp_path, "unused", fork_server, **changes).job_semantic
    job = Bench(tmp_path / "job", fork_server, semantic, SHORT)

    ended = job.attempt(stop_at=5, fault="save.before_stage:sleep=3@1+")

    assert ended.exit_code == 75
    record = ended.exit()
    assert record is not None
    assert (record.outcome, record.committed_step) == (Ending.SAVED, 4)
    assert record.seconds_from_notice is not None
    assert record.seconds_from_notice < 2.0
    reports = "\n".join(ended.progress.reports)
    assert "a save takes 3 s, but grace_seconds is 2" in reports
    assert "goes on from step 4" in reports
    resumed = job.attempt()
    assert resumed.progress.resumed_from == "step-00000004.e0001"
    assert resumed.exit_code == 0
    assert outcome(job) == whole
