"""What commands cannot break: fencing, intact saves, ranks together, equal packages."""

from __future__ import annotations

from pathlib import Path

import pytest

from checkpoints.errors import BrokenCheckpoint
from checkpoints.store import CheckpointStore
from jobs.contract.records import EpochRecord, ExitRecord, Outcome, read_record
from jobs.spec import semantic_digest
from tests.contract.commands import bench, ended, result_of, said_step


def test_a_fenced_attempt_can_publish_nothing(tmp_path: Path) -> None:
    """Its result is refused once a newer epoch exists (P2), and so is its save."""
    script = """\
import pathlib, os, time
from orch_job import Fenced, orch_attempt
attempt = orch_attempt()
attempt.progress(1)
while len(list(pathlib.Path(os.environ["ORCH_JOB_DIR"], "epochs").iterdir())) < 2:
    time.sleep(0.01)
(attempt.save_path() / "x").write_text("x")
for ask in (lambda: attempt.commit(1), lambda: attempt.result({"a": 1})):
    try:
        ask()
    except Fenced as error:
        print("refused:", error, flush=True)
"""
    job = bench(tmp_path / "j", script)
    launched = job.start()
    try:
        launched.until(lambda: said_step(job, 1) == 1, "the script")
        claim = read_record(job.job.epoch(1), EpochRecord)
        assert claim is not None
        job.job.epoch(2).write_bytes(claim.model_copy(update={"epoch": 2}).to_json())
        code = launched.process.wait(30)
    finally:
        launched.end()

    log = job.job.attempt(1).log(0).read_text()
    record = read_record(job.job.attempt(1).exit_record(0), ExitRecord)
    assert log.count("refused: epoch 2 holds the job") == 2, log
    assert record is not None
    assert record.outcome is Outcome.FENCED
    assert code == 1
    assert not job.job.result.exists()
    assert not list(job.job.checkpoints.glob("step-*"))


def test_a_damaged_save_is_quarantined_and_the_one_before_is_used(tmp_path: Path) -> None:
    """P3 for programs that know nothing of it."""
    script = """\
import os, pathlib, sys
from orch_job import orch_attempt
attempt = orch_attempt()
print("resumed from", attempt.resume_step, flush=True)
if attempt.epoch == 1:
    for step in (1, 2):
        (attempt.save_path() / "state").write_text(str(step) * 50)
        attempt.commit(step)
    attempt.leave()
attempt.result({})
"""
    job = bench(tmp_path / "j", script)
    job.attempt()
    damaged = job.job.checkpoints / "step-00000002.e0001" / "rank-00000" / "state"
    damaged.write_text("2" * 49 + "3")

    second = job.attempt()

    assert "resumed from 1" in second.log()
    assert (job.job.checkpoints / "quarantine").is_dir()
    assert any("quarantined" in line for line in second.progress.reports)
    assert result_of(job).resumed_steps == (1,)


def test_links_and_nothing_at_all_are_not_kept(tmp_path: Path) -> None:
    """The command is told why, and may go on."""
    script = """\
import os
from orch_job import Refused, orch_attempt
attempt = orch_attempt()
def refused(step):
    try:
        attempt.commit(step)
    except Refused as error:
        print("refused:", error, flush=True)
refused(1)
os.symlink("/etc/passwd", attempt.save_path() / "link")
refused(1)
(attempt.save_path() / "link").unlink()
(attempt.save_path() / ".metadata").write_text("x")
attempt.commit(1)
(attempt.save_path() / "again").write_text("x")
refused(1)
attempt.result({})
"""
    job = bench(tmp_path / "j", script)

    log = job.attempt().log()

    assert "refused: there is nothing to keep" in log
    assert "refused: 'link' is a link" in log
    assert "refused: a state of step 1 is committed already" in log
    store = CheckpointStore(
        job.job.checkpoints, job=job.spec.id, spec_digest=semantic_digest(job.spec.semantic)
    )
    assert [entry.path for entry in store.verify("step-00000001.e0001").files] == [
        "rank-00000/.metadata"
    ]
    (job.job.checkpoints / "step-00000001.e0001/rank-00000/more").write_text("x")
    with pytest.raises(BrokenCheckpoint):
        store.verify("step-00000001.e0001")


def test_ranks_run_side_by_side_and_all_must_succeed(tmp_path: Path) -> None:
    """Rank 0 may finish last or first; one rank's failure is the job's."""
    script = """\
import os, sys, time
rank = int(os.environ["RANK"])
assert (os.environ["WORLD_SIZE"], os.environ["ORCH_RANK"]) == ("2", str(rank))
time.sleep(0.3 * rank)
print("rank", rank, os.environ["MASTER_PORT"], flush=True)
sys.exit(3 if rank == 1 and sys.argv[1:] == ["fail"] else 0)
"""
    two = "  engine: {ranks: 2}\n"
    good = bench(tmp_path / "a", script, extra=two)
    bad = bench(tmp_path / "b", script, argv="[python, job.py, fail]", extra=two)

    done, failed = good.attempt(), bad.attempt()

    assert (done.exit_code, done.rank_exit_codes) == (0, [0, 0])
    assert "rank 1" in done.log(1)
    assert result_of(good).environment["ranks"] == 2
    first, second = failed.exit(0), failed.exit(1)
    assert first is not None
    assert second is not None
    assert (first.outcome, second.outcome) == (Outcome.PEER_LOST, Outcome.EXCEPTION)
    assert not bad.job.result.exists()


def test_strict_packages_refuse_another_environment(tmp_path: Path) -> None:
    """`packages: strict`: an attempt in a changed environment is a configuration error."""
    job = bench(tmp_path / "j", "raise SystemExit(75)\n", extra="packages: strict\n")
    job.attempt()
    claim = read_record(job.job.epoch(1), EpochRecord)
    assert claim is not None
    old = claim.model_copy(update={"packages": "sha256:" + "0" * 64})
    job.job.epoch(1).write_bytes(old.to_json())

    record = ended(job.attempt(), Outcome.CONFIGURATION, 78)

    assert record.error is not None
    assert "packages: strict" in record.error.message


def test_a_shell_script_has_the_api_too(tmp_path: Path) -> None:
    """`python -m orch_job` says progress, keeps what was saved and publishes the result."""
    lines = (
        "python -m orch_job progress 3 9 && echo s > $ORCH_CHECKPOINT_DIR/s"
        " && python -m orch_job commit 3 && ! python -m orch_job should-stop"
        """ && python -m orch_job result '{\\"loss\\": 0.5}'"""
    )
    job = bench(
        tmp_path / "j", "", argv=f'[sh, -c, "{lines.replace("{", "{{").replace("}", "}}")}"]'
    )

    attempted = job.attempt()

    ended(attempted, Outcome.COMPLETED, 0)
    assert result_of(job).metrics == {"test": {"loss": 0.5}}
    assert (attempted.progress.committed_step, attempted.progress.total_steps) == (3, 9)


KEEPS = """\
from orch_job import orch_attempt
attempt = orch_attempt()
print("begin at", attempt.resume_step, flush=True)
(attempt.save_path() / "state").write_text("x")
attempt.commit(attempt.resume_step + 1)
attempt.result({"begun": attempt.resume_step})
"""


@pytest.mark.parametrize(
    ("point", "begun"),
    [
        ("command.before_start", 0),
        ("saves.hashed", 0),
        ("commit.before_rename", 0),
        ("commit.after_rename", 1),
        ("publication.checked", 1),
    ],
)
def test_a_runner_killed_anywhere_loses_no_commit_and_leaves_no_half_of_one(
    tmp_path: Path, point: str, begun: int
) -> None:
    """The program dies with its runner; the next attempt finds all that was committed."""
    job = bench(tmp_path / "j", KEEPS)

    job.attempt(fault=f"{point}:kill")
    assert not job.job.result.exists()
    second = job.attempt()

    assert f"begin at {begun}" in second.log()
    assert result_of(job).metrics == {"test": {"begun": float(begun)}}
    assert [p.name for p in job.job.checkpoints.glob("staging/*.e0001.*")] == []


def test_a_runner_killed_after_the_result_has_completed_the_job(tmp_path: Path) -> None:
    """The next launch finds the result and runs nothing."""
    job = bench(tmp_path / "j", KEEPS)

    job.attempt(fault="command.after_result:kill")
    second = job.attempt()

    assert result_of(job).epoch == 1
    assert second.exit_code == 0
    assert not job.job.epoch(2).exists()
