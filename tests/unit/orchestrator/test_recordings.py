"""Recordings: private, bounded, whole again after a crash, and good for deciding once more."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from jobs.contract.paths import StateDir
from jobs.contract.records import Outcome
from orchestrator import recordings
from orchestrator.recordings import HeardText, RecordedCase, Recording, Recordings, decode, encode
from tests.unit.orchestrator.cases import NOW, attempt, evidence, exit_record, job

HEARD = HeardText(argv=("squeue", "-h"), code=0, out="row\n", err="", digest="d")
CASE = RecordedCase(
    job=job(),
    evidence=evidence(attempts=(attempt(1, exit_record(Outcome.DEVICE_OOM)),)),
    now=NOW,
    resumed=False,
    decided=("Move RETRYING",),
)
LOOK = Recording(taken_at=NOW, scheduler="slurm", heard=(HEARD,), cases=())


def test_a_line_gives_the_whole_case_back() -> None:
    """Facts, evidence with its records, and the words: nothing of a decision's grounds is lost."""
    recording = replace(LOOK, cases=(CASE,), left_out=3, unreachable="why")

    assert decode(encode(recording)) == recording


def test_a_look_that_says_nothing_new_is_counted_and_not_written(tmp_path: Path) -> None:
    """Steady matrices leave no megabytes; one in which something was decided is always kept."""
    kept = Recordings(StateDir(tmp_path))

    assert [kept.add(LOOK) for _ in range(5)] == [True, False, False, False, False]
    assert kept.add(replace(LOOK, cases=(CASE,)))
    assert kept.add(replace(LOOK, heard=(replace(HEARD, digest="e"),)))
    assert [found.repeated for found in kept.read()] == [0, 4, 0]


def test_files_are_private_bounded_and_the_oldest_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At most FILES of FILE_BYTES, mode 0600 in a directory of 0700."""
    monkeypatch.setattr(recordings, "FILE_BYTES", 5_000)
    monkeypatch.setattr(recordings, "FILES", 3)
    kept = Recordings(StateDir(tmp_path))

    for number in range(60):
        kept.add(replace(LOOK, taken_at=float(number), cases=(CASE,)))

    folder = tmp_path / "recordings"
    files = sorted(folder.iterdir())
    assert len(files) == 3
    assert all(file.stat().st_size <= 5_000 for file in files)
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    times = [found.taken_at for found in kept.read()]
    assert times == sorted(times)
    assert times[-1] == 59.0


def test_a_writer_that_died_in_its_line_spoils_no_other(tmp_path: Path) -> None:
    """The next process begins a line of its own; the broken one is passed over."""
    Recordings(StateDir(tmp_path)).add(LOOK)
    (file,) = (tmp_path / "recordings").iterdir()
    os.truncate(file, file.stat().st_size - 20)

    Recordings(StateDir(tmp_path)).add(replace(LOOK, taken_at=2.0))

    assert [found.taken_at for found in Recordings(StateDir(tmp_path)).read()] == [2.0]
