"""Older attempts in one file: few files, and every reader finds what it found before."""

from __future__ import annotations

import json
import os
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import worker.folding
from durable import faults
from jobs.archive import AttemptArchive
from jobs.contract.records import NoticedRecord, Outcome, StopCause
from jobs.history import read_history
from jobs.spec import JobSpec
from orchestrator.cli.logs import attempts_with_log, open_log
from orchestrator.evidence import read_attempt, read_evidence
from tests.unit.jobs.job_directories import Written, new_job, put
from worker.claim import epochs
from worker.folding import MAX_FILES_FINISHED, count_files, fold_older
from worker.metrics import job_curve
from worker.packages import last_packages
from worker.witness import lived_after_notice

ATTEMPTS = 9


@pytest.fixture
def written(tmp_path: Path) -> Written:
    """Nine attempts of two ranks: preempted ones, and one that was killed after its notice."""
    job = new_job(tmp_path / "orch")
    for number in range(1, ATTEMPTS + 1):
        killed = number == 3
        ranks = () if killed else (Outcome.SAVED, Outcome.SAVED)
        job.attempt(*ranks, committed=number * 3, cause=StopCause.PREEMPTION, restart=number)
        directory = job.job.attempt(number)
        rows = [json.dumps({"step": number * 3 - i, "loss": number}) for i in (2, 1, 0)]
        put(directory.metrics, ("\n".join(rows) + "\n").encode())
        for rank in (0, 1):
            put(directory.log(rank), f"attempt {number}, rank {rank}\n".encode())
        if killed:
            notice = NoticedRecord(epoch=number, cause=StopCause.PREEMPTION, noticed_at=1000.25)
            put(directory.noticed, notice.to_json())
            os.utime(directory.noticed, (1007.5, 1007.5))
    return job


def seen(written: Written) -> tuple[object, ...]:
    """Return all that readers make of the attempts."""
    job = written.job
    spec = JobSpec.model_validate_json(job.spec.read_bytes())
    logs = []
    for rank in (0, 1):
        for epoch in attempts_with_log(job, rank):
            with open_log(job, job.attempt(epoch).log(rank)) as file:
                logs.append(file.read())
    return (
        read_history(job),
        read_evidence(job, spec, ended_epoch=None),
        read_evidence(job, spec, ended_epoch=2),
        [read_attempt(job, epoch) for epoch in range(1, ATTEMPTS + 1)],
        job_curve(job, up_to_epoch=ATTEMPTS, steps=60),
        lived_after_notice(job, before_epoch=ATTEMPTS),
        last_packages(job, before=ATTEMPTS),
        logs,
    )


def lying(written: Written) -> int:
    """Return how many files the job directory has."""
    return sum(path.is_file() for path in written.job.path.rglob("*"))


def test_readers_see_what_they_saw(written: Written) -> None:
    """History, evidence, curve, learned grace and logs are equal before and after."""
    before, files = seen(written), lying(written)
    assert len(before[7]) == 2 * ATTEMPTS  # type: ignore[arg-type]

    assert fold_older(written.job, ATTEMPTS, ranks=2, finished=False) > 40

    assert seen(written) == before
    assert lying(written) < files - 40
    assert epochs(written.job) == [ATTEMPTS - 1, ATTEMPTS]  # the fence, and who may still speak


def test_a_finished_job_has_one_attempt_and_one_archive(written: Written) -> None:
    """However many attempts there were: this one's files, and one file for all others."""
    before = seen(written)
    fold_older(written.job, ATTEMPTS, ranks=2, finished=True)

    assert seen(written) == before
    names = {path.name for path in written.job.attempts.iterdir()}
    assert names == {f"{ATTEMPTS:04d}", f"archive.e{ATTEMPTS:04d}.zip"}
    assert lying(written) <= 10


def test_few_files_stay_as_they_are(written: Written, tmp_path: Path) -> None:
    """People look at the last attempts; checkpoints and quarantine count, wherever they lie."""
    job = new_job(tmp_path / "few")
    for _ in range(5):
        job.attempt(Outcome.SAVED)
    assert fold_older(job.job, 5, ranks=2, finished=False) == 0
    assert fold_older(job.job, 5, ranks=2, finished=True) == 0
    scratch = tmp_path / "scratch"
    for number in range(MAX_FILES_FINISHED):
        put(scratch / "quarantine" / str(number), b"")
    job.job.checkpoints.symlink_to(scratch)
    assert count_files(job.job) == 1 + 5 * 3 + MAX_FILES_FINISHED
    assert fold_older(job.job, 5, ranks=4, finished=True) == 0
    assert fold_older(job.job, 5, ranks=2, finished=True) == 4 * 3


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Let a test set ORCH_FAULT; nothing of it stays."""
    yield monkeypatch
    monkeypatch.delenv("ORCH_FAULT", raising=False)
    faults.reset()


@pytest.mark.parametrize(
    "fault",
    ["publish.before_rename", "publish.after_rename", "folding.after_publish"]
    + [f"folding.after_remove:@{n}" for n in (1, 7, 30)],
)
def test_a_crash_in_the_middle_costs_nothing(
    written: Written, killed: pytest.MonkeyPatch, fault: str
) -> None:
    """At each point all is there, and the next attempt tidies up."""
    before = seen(written)
    name, _, nth = fault.partition(":")
    killed.setenv("ORCH_FAULT", f"{name}:raise=KeyError{nth}")
    faults.reset()
    with pytest.raises(KeyError):
        fold_older(written.job, ATTEMPTS, ranks=2, finished=False)
    killed.delenv("ORCH_FAULT")
    faults.reset()

    assert seen(written) == before
    for _ in range(6):  # the next attempts have an archive, too, with all that this one had
        written.attempt(Outcome.SAVED, Outcome.SAVED, committed=40)
        for name in "abcd":
            put(written.job.attempt(written.epoch).path / name, b"evidence")
    after = seen(written)
    assert fold_older(written.job, written.epoch, ranks=2, finished=True) > 0
    assert seen(written) == after
    assert lying(written) <= 10


def test_two_that_fold_at_once_lose_nothing(written: Written) -> None:
    """An older copy that goes on after a newer one has folded adds its own archive only."""
    before = seen(written)
    fold_older(written.job, ATTEMPTS, ranks=2, finished=False)
    newer = next(written.job.attempts.glob("archive.*"))
    kept = newer.read_bytes()
    fold_older(written.job, ATTEMPTS - 1, ranks=2, finished=False)
    newer.write_bytes(kept)
    assert seen(written) == before


def test_a_damaged_archive_is_a_record_that_cannot_be_read(written: Written) -> None:
    """Nothing fails over it; what lies open is still seen."""
    fold_older(written.job, ATTEMPTS, ranks=2, finished=False)
    (archive,) = written.job.attempts.glob("archive.*")
    data = bytearray(archive.read_bytes())
    for at in range(40, len(data) - 4000, 97):
        data[at] ^= 0xFF
    archive.write_bytes(data)
    history = read_history(written.job)
    assert [a.epoch for a in history.attempts][-2:] == [ATTEMPTS - 1, ATTEMPTS]
    archive.write_bytes(b"no archive")
    assert [a.epoch for a in read_history(written.job).attempts] == [ATTEMPTS - 1, ATTEMPTS]
    for epoch in (ATTEMPTS, ATTEMPTS + 1):  # it is evidence: nobody writes over it or deletes it
        if epoch > ATTEMPTS:
            written.attempt(Outcome.SAVED, Outcome.SAVED)
        for name in map(str, range(MAX_FILES_FINISHED)):
            put(written.job.attempt(epoch - 1).path / name, b"evidence")
        folded = fold_older(written.job, epoch, ranks=2, finished=True)
        assert (folded > 0) == (epoch > ATTEMPTS)
        assert archive.read_bytes() == b"no archive"


def test_what_is_written_meanwhile_stays(written: Written, killed: pytest.MonkeyPatch) -> None:
    """A rank of an older launch may still speak: its words are in the file, if not in the archive.

    What is taken away in any order is found, and `unzip` may read what it makes.
    """
    log, late = written.job.attempt(2).log(1), b"attempt 2, rank 1\nlate words\n"
    killed.setenv("ORCH_FAULT", "folding.after_publish:raise=KeyError")
    faults.reset()
    with pytest.raises(KeyError):
        fold_older(written.job, ATTEMPTS, ranks=2, finished=False)
    killed.delenv("ORCH_FAULT")
    faults.reset()
    before = seen(written)
    written.job.epoch(4).unlink()  # a power cut may keep later removals only
    assert seen(written) == before

    real = worker.folding._zipped
    killed.setattr(worker.folding, "_zipped", lambda members: (put(log, late), real(members))[1])
    fold_older(written.job, ATTEMPTS, ranks=2, finished=False)

    assert log.read_bytes() == late
    assert not written.job.attempt(2).log(0).exists()
    (archive,) = written.job.attempts.glob("archive.*")
    modes = {info.external_attr >> 16 for info in zipfile.ZipFile(archive).infolist()}
    assert modes == {stat.S_IFREG | 0o600}


def test_what_is_large_or_no_file_stays(written: Written, tmp_path: Path) -> None:
    """Links are not followed, and nobody's memory is filled."""
    link = written.job.attempt(1).path / "link"
    link.symlink_to(tmp_path)
    fold_older(written.job, ATTEMPTS, ranks=2, finished=False)
    assert link.is_symlink()
    (archive,) = written.job.attempts.glob("archive.*")
    assert not [name for name in zipfile.ZipFile(archive).namelist() if "link" in name]
    assert AttemptArchive.of(written.job).files(1)
