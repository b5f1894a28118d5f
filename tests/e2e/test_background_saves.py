"""Checkpoints written behind the training: the same bits, whatever happens in the middle of one."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from jobs.checkpoint_size import RANK_BYTES, checkpoint_bytes, model_shapes, trained_elements
from jobs.contract.records import Outcome as Ending
from jobs.spec import Run
from tests.e2e.comparison import Outcome, bench, outcome, uninterrupted
from tests.e2e.harness import Bench
from worker.forkserver import ForkServer

pytestmark = pytest.mark.e2e
CHANGES: dict[str, Any] = {"engine__ranks": 2, "engine__zero_stage": 2}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, fork_server: ForkServer) -> Outcome:
    """The uninterrupted run, for all tests here."""
    return uninterrupted(tmp_path_factory.mktemp("whole"), fork_server, **CHANGES)


def job_of(root: Path, server: ForkServer, **run: Any) -> Bench:
    """Return the job; its directory of data is named as that of `whole`, for equal digests."""
    semantic = bench(root, "unused", server, **CHANGES).job_semantic
    save = {"every_steps": 3, **run.pop("save", {})}
    return Bench(root / "job", server, semantic, Run.model_validate({"save": save, **run}))


def _assert_predicted(job: Bench) -> None:
    """A checkpoint is not bigger than was predicted, and not much smaller."""
    shapes = model_shapes(job.spec.semantic, None)
    assert shapes is not None
    elements = trained_elements(job.spec.semantic, shapes)
    assert elements is not None
    predicted = checkpoint_bytes(job.spec.semantic, elements)
    for path in job.job.checkpoints.glob("step-*"):
        size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        assert size <= predicted
        assert size >= predicted - job.ranks * RANK_BYTES - 4 * elements


def test_steps_are_done_while_a_checkpoint_is_written(
    tmp_path: Path, fork_server: ForkServer, whole: Outcome
) -> None:
    """Between the copy of a state and its commit lie steps; there is one save at a time."""
    job = job_of(tmp_path, fork_server)
    passed = tmp_path / "passed"
    ended = job.attempt(
        fault="save.before_stage[rank=0]:sleep=0.5@1+", env={"ORCH_FAULT_LOG": str(passed)}
    )

    assert ended.exit_code == 0
    assert outcome(job) == whole
    _assert_predicted(job)
    lines = passed.read_text().splitlines()
    starts = [i for i, line in enumerate(lines) if line == "background.before_start"]
    commits = [i for i, line in enumerate(lines) if line == "commit.after_rename"]
    assert len(starts) == 6  # of two ranks
    assert len(commits) == 4  # the last one is waited for
    for first, second, commit in zip(starts[::2], starts[1::2], commits[:3], strict=True):
        assert second < commit
        assert "loop.after_step" in lines[second:commit]
        assert lines[first:commit].count("background.before_start") == 2


def test_a_notice_during_a_save_waits_for_it_and_saves_the_present_step(
    tmp_path: Path, fork_server: ForkServer, whole: Outcome
) -> None:
    """SIGTERM, twice, to all ranks while step 3 is being written: 3 and the last step are down."""
    job = job_of(tmp_path, fork_server)
    launched = job.start(fault="save.before_stage:sleep=2@1,loop.after_step[rank=0]:stop@4")
    try:
        launched.wait_stopped(0)
        launched.signal_ranks(signal.SIGTERM)
        launched.signal_ranks(signal.SIGCONT)
        launched.signal_ranks(signal.SIGTERM)
        ended = launched.wait()
    finally:
        launched.end()

    assert ended.exit_code == 75
    names = sorted(path.name for path in job.job.checkpoints.glob("step-*"))
    assert names[0] == "step-00000003.e0001"
    assert len(names) == 2
    record = ended.exit()
    assert record is not None
    assert record.committed_step == record.last_step
    job.until_done(limit=1)
    assert outcome(job) == whole


def test_under_a_short_grace_the_save_in_flight_is_completed_instead(
    tmp_path: Path, fork_server: ForkServer, whole: Outcome
) -> None:
    """There is time for the rest of one save, not for another one: that is said."""
    job = job_of(tmp_path, fork_server, grace_seconds=7.0)

    ended = job.attempt(stop_at=4, fault="save.before_stage:sleep=4@1+")

    assert ended.exit_code == 75
    record = ended.exit()
    assert record is not None
    assert (record.outcome, record.committed_step) == (Ending.SAVED, 3)
    assert record.last_step > 3
    assert "goes on from step 3" in "\n".join(ended.progress.reports)
    job.until_done(limit=1)
    assert outcome(job) == whole


@pytest.mark.parametrize("rank", [0, 1])
def test_a_node_lost_in_the_middle_of_a_save_leaves_the_one_before(
    tmp_path: Path, fork_server: ForkServer, whole: Outcome, rank: int
) -> None:
    """SIGKILL of all ranks while one has written half of its files and the training is ahead."""
    job = job_of(tmp_path, fork_server)
    assert job.attempt(stop_at=1).exit_code == 75
    # A continued rank may hear of its signal one step late: then steps 3 and 4 are both down.
    before = sorted(path.name for path in job.job.checkpoints.glob("step-*"))

    ended = job.attempt(
        stop_at=4,
        sends=signal.SIGKILL,
        fault=f"stage.after_write[rank={rank}]:sleep=30@2",
    )

    assert ended.progress.committed_step == int(before[-1][5:13])
    assert sorted(path.name for path in job.job.checkpoints.glob("step-*")) == before
    assert list((job.job.checkpoints / "staging").iterdir())
    job.until_done(limit=1)
    assert outcome(job) == whole
    assert job.result.exact


def test_what_cannot_be_written_twice_is_the_jobs_to_judge(
    tmp_path: Path, fork_server: ForkServer, whole: Outcome
) -> None:
    """By default it trains on and says so; with `on_failure: stop` the attempt is an exception."""
    full = "save.before_stage[rank=1]:errno=ENOSPC"
    job = job_of(tmp_path / "continue", fork_server)
    ended = job.attempt(fault=f"{full}@1,{full}@2")
    reports = "\n".join(ended.progress.reports)
    assert ended.exit_code == 0
    assert "step 3 not saved" in reports
    assert "step 6 not saved" not in reports
    assert outcome(job) == whole

    job = job_of(tmp_path / "stop", fork_server, save={"on_failure": "stop"})
    ended = job.attempt(fault=f"{full}@1,{full}@2")
    record = ended.exit()
    assert ended.exit_code == 1
    assert record is not None
    assert record.error is not None
    assert record.error.type == "SaveFailed"
    assert "save.on_failure" in record.error.message
