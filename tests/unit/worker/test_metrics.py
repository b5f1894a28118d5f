"""The one curve: each step once, from its highest epoch, whatever the attempts left behind."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from durable import faults
from jobs.contract.paths import JobDir
from jobs.curve import merge, read_rows
from worker.metrics import Curve, job_curve, missing_steps


def train(step: int, loss: float) -> dict[str, float]:
    """Return a train row."""
    return {"step": step, "loss": loss}


def test_each_step_comes_from_its_highest_epoch() -> None:
    """Steps that a later attempt did again count once."""
    first = [train(1, 0.1), train(2, 0.2), train(3, 0.3)]
    second = [train(3, 0.33), train(4, 0.4)]

    assert merge([first, second], steps=4) == [
        train(1, 0.1),
        train(2, 0.2),
        train(3, 0.33),
        train(4, 0.4),
    ]


def test_an_evaluation_joins_its_step_across_attempts() -> None:
    """Trained in one attempt, evaluated in the next: still one row."""
    rows = merge([[train(1, 0.5)], [{"step": 1, "dev": {"loss": 2.0}}]], steps=1)

    assert rows == [{"step": 1, "loss": 0.5, "dev": {"loss": 2.0}}]


def test_rows_behind_the_last_step_are_no_part_of_the_curve() -> None:
    """A damaged file must not invent steps."""
    assert merge([[train(0, 1.0), train(2, 1.0), train(1, 1.0)]], steps=1) == [train(1, 1.0)]
    assert missing_steps([train(1, 1.0), {"step": 2, "dev": {}}], steps=3) == [2, 3]


def test_a_torn_last_line_is_no_row(tmp_path: Path) -> None:
    """SIGKILL in the middle of an append."""
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step":1,"loss":1.0}\nnull\n{"loss":2}\n\xff\n{"step":2,"lo')

    assert list(read_rows(path)) == [train(1, 1.0)]
    assert list(read_rows(tmp_path / "absent")) == []


def test_the_jobs_curve_ignores_younger_epochs(tmp_path: Path) -> None:
    """A fenced attempt publishes nothing of its successor's."""
    job = JobDir(tmp_path)
    job.epochs.mkdir()
    for epoch in (1, 2, 3):
        job.epoch(epoch).write_text("{}")
        job.attempt(epoch).path.mkdir(parents=True)
        curve = Curve(job.attempt(epoch).metrics)
        curve.add(train(epoch, float(epoch)))
        curve.flush()

    assert job_curve(job, up_to_epoch=2, steps=9) == [train(1, 1.0), train(2, 2.0)]


def test_a_flush_that_failed_is_made_good_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a full disk the rows are there once, and no half row is before them."""
    path = tmp_path / "metrics.jsonl"
    curve = Curve(path)
    curve.add(train(1, 1.0))
    curve.flush()
    monkeypatch.setenv("ORCH_FAULT", "metrics.before_flush:errno=ENOSPC")
    faults.reset()
    curve.add(train(2, 2.0))
    with pytest.raises(OSError, match="No space") as caught:
        curve.flush()
    assert caught.value.errno == errno.ENOSPC
    with path.open("ab") as file:
        file.write(b'{"step":2,"lo')  # what the failed write may have left
    curve.add(train(3, 3.0))
    curve.flush()
    monkeypatch.delenv("ORCH_FAULT")
    faults.reset()

    assert [row["step"] for row in read_rows(path)] == [1, 2, 3]
    assert path.read_bytes().count(b"\n") == 3
