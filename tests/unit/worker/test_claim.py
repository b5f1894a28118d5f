"""Epochs: claimed once each, found by the ranks of one launch, and a fence for older ones."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from checkpoints.errors import Fenced
from jobs.contract.paths import JobDir
from jobs.contract.records import EpochRecord
from worker.claim import NoClaim, check_fence, claim, epochs, find_claim


def wanted(**changes: object) -> EpochRecord:
    """Return a claim as a launch would make it."""
    fields = {
        "epoch": 0,
        "token": "t1",
        "scheduler": "slurm",
        "scheduler_id": "77",
        "array_task": 3,
        "restart_count": 0,
        "launch_id": None,
        "host": "n1",
        "boot_id": "b",
        "pid": 1,
        "pid_start": 2,
        "started_at": 0.0,
    }
    return EpochRecord.model_validate(fields | changes)


def test_a_hundred_claims_at_once_take_a_hundred_epochs(tmp_path: Path) -> None:
    """O_EXCL decides: no number twice, none skipped."""
    job = JobDir(tmp_path)
    start = threading.Barrier(10)
    taken: list[int] = []

    def body(thread: int) -> None:
        start.wait()
        taken.extend(claim(job, wanted(launch_id=f"{thread}-{turn}")).epoch for turn in range(10))

    threads = [threading.Thread(target=body, args=(thread,)) for thread in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(taken) == list(range(1, 101))
    assert epochs(job) == list(range(1, 101))


@pytest.mark.parametrize(
    "change",
    [
        {"token": "t2"},
        {"scheduler_id": "78"},
        {"array_task": 4},
        {"restart_count": 1},
        {"launch_id": "x"},
    ],
)
def test_a_rank_never_takes_another_launchs_claim(
    tmp_path: Path, change: dict[str, object]
) -> None:
    """A node that only looked dead leaves two copies with one job id; restart counts differ."""
    job = JobDir(tmp_path)
    mine = claim(job, wanted())
    claim(job, wanted(**change))

    assert find_claim(job, wanted(), timeout_seconds=0).epoch == mine.epoch


def test_looking_for_a_claim_is_bounded(tmp_path: Path) -> None:
    """Rank 0 may have died before it claimed."""
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    with pytest.raises(NoClaim, match="rank 0"):
        find_claim(
            JobDir(tmp_path),
            wanted(),
            timeout_seconds=60,
            monotonic=lambda: now[0],
            sleep=sleep,
        )
    assert 60 <= now[0] < 61


def test_a_higher_epoch_fences_a_lower_one(tmp_path: Path) -> None:
    """The older attempt may publish nothing; the newest may."""
    job = JobDir(tmp_path)
    claim(job, wanted())
    claim(job, wanted(restart_count=1))
    (job.epochs / "9999.json.tmp").write_text("")  # what is no claim fences nobody

    check_fence(job, 2)
    with pytest.raises(Fenced, match="epoch 2 holds the job"):
        check_fence(job, 1)
