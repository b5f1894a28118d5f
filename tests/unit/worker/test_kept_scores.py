"""Kept scores: only what is whole and of the very same evaluation is taken over."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable import faults
from jobs.contract.paths import JobDir
from worker.folding import fold_older
from worker.growing_file import GrowingFile
from worker.kept_scores import KeptScores, Row, decode, encode, evaluation_key, whole_batches

KEY = evaluation_key(split="test", weights="sha256:1", batch=4)
ROWS: list[Row] = [
    (0, 1.25, 2, True, "warm"),
    (1, 1 / 3, 3, False, None),
    (2, math.inf, 1, False, "a\u2028b\ud800"),
]
rows = st.lists(
    st.tuples(
        st.integers(0, 50),
        st.floats(allow_nan=False),
        st.integers(1, 9),
        st.booleans(),
        st.none() | st.text(),
    )
)


@pytest.fixture
def job(tmp_path: Path) -> JobDir:
    """A job of three attempts."""
    found = JobDir(tmp_path / "job")
    found.epochs.mkdir(parents=True)
    for epoch in (1, 2, 3):
        found.epoch(epoch).write_text("{}")
        found.attempt(epoch).path.mkdir(parents=True)
    return found


def kept(job: JobDir, epoch: int, rank: int = 0, **changes: str) -> KeptScores:
    """Return one rank's view in the attempt of an epoch."""
    return KeptScores(job, epoch=epoch, rank=rank, **({"name": "test", "key": KEY} | changes))


@given(rows=rows)
def test_rows_come_back_bit_by_bit(rows: list[Row]) -> None:
    """Also floats of many digits and texts of odd characters."""
    assert list(decode(encode(rows, key=KEY), key=KEY)) == rows


@given(cut=st.integers(0, 200), flip=st.integers(0, 199), bit=st.integers(0, 7))
def test_what_is_torn_or_damaged_is_no_score(cut: int, flip: int, bit: int) -> None:
    """Whatever a crash or a bad disk leaves, a row is as it was written or is not there."""
    data = bytearray(encode(ROWS, key=KEY))
    data[flip % len(data)] ^= 1 << bit
    assert set(decode(bytes(data), key=KEY)) <= set(ROWS)
    torn = encode(ROWS, key=KEY)[:cut]
    assert list(decode(torn, key=KEY)) == ROWS[: torn.count(b"\n")]


def test_other_weights_other_scores(job: JobDir) -> None:
    """A score counts for one evaluation alone."""
    kept(job, 1).add(ROWS)
    others = {
        evaluation_key(split="test", weights="sha256:2", batch=4),
        evaluation_key(split="test", weights="sha256:1", batch=2),
        evaluation_key(split="dev", weights="sha256:1", batch=4),
    }

    assert KEY not in others
    assert len(others) == 3
    assert kept(job, 2).earlier(expected=3) == {row[0]: row for row in ROWS}
    for key in others:
        assert kept(job, 2, key=key).earlier(expected=3) == {}
    assert kept(job, 2, name="dev").earlier(expected=3) == {}


def test_scores_of_all_ranks_and_attempts_come_together(job: JobDir) -> None:
    """Of any number of ranks; the older one stands; younger epochs and odd indices do not count."""
    kept(job, 1, rank=0).add([(0, 1.0, 1, True, "old")])
    kept(job, 1, rank=7).add([(4, 1.0, 1, True, None)])
    kept(job, 2).add([(0, 2.0, 1, True, "new"), (2, 1.0, 1, True, None), (9, 1.0, 1, True, None)])
    kept(job, 3).add([(1, 1.0, 1, True, None)])

    assert {i: row[4] for i, row in kept(job, 2).earlier(expected=5).items()} == {
        0: "old", 2: None, 4: None,
    }  # fmt: skip


def test_scores_survive_the_archive_of_older_attempts(
    job: JobDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Folding keeps a job's files few and loses nothing."""
    kept(job, 1).add(ROWS)
    monkeypatch.setattr("worker.folding.MAX_FILES", 1)
    assert fold_older(job, 3, ranks=1, finished=False) > 0
    assert not job.attempt(1).predictions.exists()

    assert len(kept(job, 3).earlier(expected=3)) == 3


def test_a_new_evaluation_of_the_attempt_takes_the_place_of_the_last(job: JobDir) -> None:
    """One file for each split and rank, however often the dev split is evaluated."""
    kept(job, 1, name="dev", key="first").add(ROWS)
    kept(job, 1, name="dev", key="second").add(ROWS[:1])

    assert kept(job, 2, name="dev", key="first").earlier(expected=3) == {}
    assert set(kept(job, 2, name="dev", key="second").earlier(expected=3)) == {0}
    assert len(list(job.attempt(1).predictions.iterdir())) == 1


def test_a_full_disk_ends_no_evaluation(job: JobDir, monkeypatch: pytest.MonkeyPatch) -> None:
    """The scores wait, and are on disk once there is room."""
    mine = kept(job, 1)
    monkeypatch.setenv("ORCH_FAULT", "scores.before_append:errno=ENOSPC")
    faults.reset()
    try:
        assert not mine.add(ROWS[:2])
        assert mine.flush()
    finally:
        monkeypatch.delenv("ORCH_FAULT")
        faults.reset()

    assert set(kept(job, 2).earlier(expected=3)) == {0, 1}


def test_appends_are_rare_beside_the_time_that_they_take(job: JobDir) -> None:
    """The first scores are safe at once; later ones wait until an append is cheap beside them."""
    ticks = iter([0.0, 0.0, 0.1, 1.0, 2.09, 2.11, 2.11, 2.2])
    mine = KeptScores(
        job, epoch=1, rank=0, name="test", key=KEY, monotonic=lambda: next(ticks)
    )  # an append takes 0.1 s: 5 % of 2 s

    assert [mine.add([row]) for row in (ROWS[0], ROWS[1], ROWS[2], ROWS[0])] == [
        True, False, False, True,
    ]  # fmt: skip
    assert len(kept(job, 2).earlier(expected=3)) == 3


def test_what_is_published_is_not_kept_twice(job: JobDir) -> None:
    """Only the files of scores go."""
    mine = kept(job, 1)
    mine.add(ROWS)
    (job.attempt(1).predictions / "test.jsonl").write_text("published")
    mine.discard()

    assert [p.name for p in job.attempt(1).predictions.iterdir()] == ["test.jsonl"]


def test_a_batch_counts_whole_or_not_at_all() -> None:
    """What shares a batch may share roundings."""
    batches = [range(2), range(2, 5), range(5, 6)]
    assert whole_batches(batches, [0, 1, 2, 4, 5]) == {0, 2}
    assert whole_batches([], [1]) == set()


def test_what_a_failed_append_left_is_cut_off(tmp_path: Path) -> None:
    """And so is what lay there before."""
    path = tmp_path / "rows"
    path.write_bytes(b"older and longer")
    file = GrowingFile(path)
    file.append(b"one\n")
    with path.open("ab") as torn:
        torn.write(b"tw")
    file.append(b"two\n")

    assert path.read_bytes() == b"one\ntwo\n"
