"""What a killed attempt leaves behind tells how long it had after its notice."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.contract.exit_codes import ExitCode
from jobs.contract.paths import JobDir
from jobs.contract.records import ExitRecord, Outcome, StopCause
from worker.deadline import Lived
from worker.witness import Witness, lived_after_notice


@pytest.fixture
def job(tmp_path: Path) -> JobDir:
    """A job with the directories of three attempts."""
    job = JobDir(tmp_path)
    for epoch in (1, 2, 3):
        job.attempt(epoch).path.mkdir(parents=True)
    return job


def killed(job: JobDir, epoch: int, *, seconds: float, cause: str = "preemption") -> None:
    """Leave what an attempt leaves that is killed so long after its notice."""
    witness = Witness(job.attempt(epoch).noticed, wall=lambda: 1000.0 + seconds)
    witness.begin(epoch=epoch, cause=cause, noticed_at=1000.0)
    witness.touch()
    witness._over.set()


def left(job: JobDir, epoch: int, *, seconds: float) -> None:
    """Leave the exit record of an attempt that saved and went."""
    record = ExitRecord(
        epoch=epoch,
        rank=0,
        outcome=Outcome.SAVED,
        cause=StopCause.PREEMPTION,
        exit_code=int(ExitCode.AGAIN),
        last_step=3,
        seconds_from_notice=seconds,
    )
    job.attempt(epoch).exit_record(0).write_bytes(record.to_json())


def test_the_last_touch_is_the_kill(job: JobDir) -> None:
    """Whoever left by itself had at least that long; an attempt without a notice says nothing."""
    killed(job, 1, seconds=8.25)
    left(job, 2, seconds=3.5)

    assert lived_after_notice(job, before_epoch=4) == [
        Lived(epoch=1, seconds=8.25, killed=True),
        Lived(epoch=2, seconds=3.5, killed=False),
    ]
    assert [one.epoch for one in lived_after_notice(job, before_epoch=2)] == [1]


def test_only_preemptions_count(job: JobDir) -> None:
    """A cancel or a time limit has a grace of its own; a torn file is no evidence."""
    killed(job, 1, seconds=1.0, cause="time_limit")
    job.attempt(2).noticed.write_bytes(b'{"epoch": 2, "cau')

    assert lived_after_notice(job, before_epoch=4) == []


def test_who_leaves_takes_the_file_away(job: JobDir) -> None:
    """And a killed attempt that still wrote its exit record is believed by that."""
    witness = Witness(job.attempt(1).noticed)
    witness.begin(epoch=1, cause="preemption", noticed_at=1000.0)
    assert job.attempt(1).noticed.exists()
    witness.end()
    witness.end()
    assert not job.attempt(1).noticed.exists()

    killed(job, 2, seconds=2.0)
    left(job, 2, seconds=3.0)
    assert lived_after_notice(job, before_epoch=4) == [Lived(epoch=2, seconds=3.0, killed=False)]


def test_a_disk_that_refuses_costs_this_knowledge_only(tmp_path: Path) -> None:
    """No directory, no file: nothing is raised, and the end finds nothing to take away."""
    witness = Witness(tmp_path / "nowhere" / "noticed.json")
    witness.begin(epoch=1, cause="preemption", noticed_at=1000.0)
    witness.end()
