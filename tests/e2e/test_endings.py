"""How attempts end besides preemption: exit code, exit record, and what the next one finds."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from jobs.contract.records import (
    ControlRecord,
    EpochRecord,
    ExitRecord,
    Outcome,
    StopCause,
    read_record,
)
from tests.e2e.comparison import bench, outcome, uninterrupted
from tests.e2e.harness import Bench, semantic, write_task
from worker.forkserver import ForkServer

pytestmark = pytest.mark.e2e


def test_a_finished_job_is_left_alone(tmp_path: Path, fork_server: ForkServer) -> None:
    """Run again after its result, it leaves with 0, claims nothing, and few files are left."""
    job = bench(tmp_path, "job", fork_server)
    assert job.attempt(stop_at=5).exit_code == 75
    job.until_done()
    before = job.job.result.read_bytes()
    again = job.attempt()

    assert again.exit_code == 0
    assert len(list(job.job.epochs.iterdir())) == 2
    assert job.job.result.read_bytes() == before
    files = [path for path in job.job.path.rglob("*") if path.is_file()]
    assert len(files) <= 40, files


def test_a_wrong_model_path_is_a_configuration_error(
    tmp_path: Path, fork_server: ForkServer
) -> None:
    """78 on every rank, with the field in the record."""
    changes = {"model__config": None, "model__path": "/nowhere/at/all", "engine__ranks": 2}
    ended = bench(tmp_path, "job", fork_server, **changes).attempt()

    assert ended.exit_code == 78
    for rank in (0, 1):
        record = ended.exit(rank)
        assert (record.outcome, record.exit_code) == (Outcome.CONFIGURATION, 78)
        assert "model.path '/nowhere/at/all'" in record.error.message


def test_an_exception_is_on_record_and_equal_ones_are_recognised(
    tmp_path: Path, fork_server: ForkServer
) -> None:
    """Exit 1, the traceback kept, the same digest in another attempt at another step."""
    job = bench(tmp_path, "job", fork_server)
    first = job.attempt(fault="loop.after_step:errno=EIO@2")
    second = job.attempt(fault="loop.after_step:errno=EIO@5")

    assert (first.exit_code, second.exit_code) == (1, 1)
    assert first.exit().outcome is Outcome.EXCEPTION
    assert first.exit().last_step == 2
    assert "loop.after_step" in first.exit().error.message
    assert "Traceback" in first.exit().error.traceback
    assert first.exit().error.digest == second.exit().error.digest


def test_a_diverged_run_says_so_and_keeps_its_last_good_checkpoint(
    tmp_path: Path, fork_server: ForkServer
) -> None:
    """A loss that is no number ends the run before anything of it is saved."""
    changes = {"train__lr": 1e30, "train__warmup_steps": 0, "train__max_grad_norm": 0.0}
    job = bench(tmp_path, "job", fork_server, method={"name": "full"}, **changes)
    ended = job.attempt()

    assert ended.exit_code == 1
    assert ended.exit().error.type == "Diverged"
    assert "lower train.lr" in ended.exit().error.message
    assert not job.job.result.exists()
    assert not list(job.job.checkpoints.glob("step-*"))


def test_a_full_disk_costs_a_checkpoint_not_the_run(
    tmp_path: Path, fork_server: ForkServer
) -> None:
    """A save that fails on one rank is reported by all; training goes on to the same bits."""
    changes = {"engine__ranks": 2, "engine__zero_stage": 2}
    whole = uninterrupted(tmp_path, fork_server, **changes)
    job = bench(tmp_path, "job", fork_server, **changes)
    ended = job.attempt(
        fault="stage.before_write[rank=1]:errno=ENOSPC@2,commit.before_manifest:errno=EIO@2"
    )

    assert ended.exit_code == 0, ended.log()
    assert outcome(job) == whole
    assert [report.split(":")[0] for report in ended.progress.reports] == [
        "step 3 not saved",
        "step 9 not saved",
    ]
    assert "No space left" in ended.progress.reports[0]


def test_an_older_epoch_can_publish_nothing(tmp_path: Path, fork_server: ForkServer) -> None:
    """Another attempt claims the job meanwhile: no checkpoint, no result, outcome fenced."""
    job = bench(tmp_path, "job", fork_server)
    launched = job.start(fault="loop.after_step:stop@5")
    try:
        rank = launched.wait_stopped(0)
        claim = read_record(job.job.epoch(1), EpochRecord)
        higher = claim.model_copy(update={"epoch": 2, "restart_count": 1})
        job.job.epoch(2).write_bytes(higher.to_json())
        job.job.attempt(2).path.mkdir()
        rank.signal(signal.SIGCONT)
        ended = launched.wait()
    finally:
        launched.end()
    record = read_record(job.job.attempt(1).exit_record(0), ExitRecord)

    assert ended.exit_code == 1
    assert record.outcome is Outcome.FENCED
    assert not job.job.result.exists()
    assert [path.name for path in job.job.checkpoints.glob("step-*")] == ["step-00000003.e0001"]


@pytest.mark.parametrize("point", ["publication.staged", "publication.before_result"])
def test_killed_before_the_result_it_is_published_by_the_next_attempt(
    tmp_path: Path, fork_server: ForkServer, point: str
) -> None:
    """The final checkpoint is committed: only the test is done again, with the same outcome."""
    whole = uninterrupted(tmp_path, fork_server)
    job = bench(tmp_path, "job", fork_server)
    killed = job.attempt(fault=f"{point}:kill")

    assert killed.rank_exit_codes == [-9]
    assert not job.job.result.exists()
    job.until_done(limit=1)
    assert outcome(job) == whole
    assert job.result.resumed_steps == (12,)


def test_the_orchestrators_word_stops_without_a_signal(
    tmp_path: Path, fork_server: ForkServer
) -> None:
    """control.json for this epoch: saved, 75, and the cause is the orchestrator's."""
    job = bench(tmp_path, "job", fork_server, engine__ranks=2)
    launched = job.start(fault="loop.after_step[rank=0]:stop@3")
    try:
        rank = launched.wait_stopped(0)
        word = ControlRecord(epoch=1, request="stop", cause=StopCause.REHEARSAL)
        job.job.control.write_bytes(word.to_json())
        time.sleep(0.6)  # it is looked at every half second
        rank.signal(signal.SIGCONT)
        ended = launched.wait()
    finally:
        launched.end()

    assert ended.exit_code == 75
    assert {ended.exit(rank).cause for rank in (0, 1)} == {StopCause.REHEARSAL}
    assert {ended.exit(rank).outcome for rank in (0, 1)} == {Outcome.SAVED}
    assert ended.progress.notice.cause == "rehearsal"
    assert ended.exit(0).seconds_from_notice < 20


def test_the_shipped_data_set_trains(tmp_path: Path, fork_server: ForkServer) -> None:
    """`package:quickstart` is found, learnt from, and scored as classification."""
    job = semantic(write_task(tmp_path / "unused"), task__path="package:quickstart")
    shipped = Bench(tmp_path / "job", fork_server, job)
    shipped.until_done(limit=1)
    rows = shipped.job.metrics.read_text().splitlines()

    assert len(rows) == 12
    assert 0 <= shipped.result.metrics["test"]["accuracy"] <= 1


def test_changed_data_is_refused(tmp_path: Path, fork_server: ForkServer) -> None:
    """A run never goes on with other examples than it began with."""
    job = bench(tmp_path, "job", fork_server)
    assert job.attempt(stop_at=5).exit_code == 75
    train = tmp_path / "task" / "train.tsv"
    train.write_text(train.read_text() + "one more\twarm\n")
    ended = job.attempt()

    assert ended.exit_code == 78
    refused = ended.exit().error
    assert refused.type == "ResumeRefused"
    assert "data: the task's files: sha256:" in refused.message
    assert "submit the changed one as a new job" in refused.message
