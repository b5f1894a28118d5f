"""A damaged checkpoint is quarantined with a report, the previous one used, no bit is lost."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs.contract.paths import checkpoint_name
from tests.e2e.comparison import Outcome, bench, outcome, uninterrupted
from tests.e2e.harness import Bench
from worker.forkserver import ForkServer

pytestmark = pytest.mark.e2e

CHANGES = {
    "engine__ranks": 2,
    "engine__zero_stage": 1,
    # Ties leave the earlier step the best, so that a later checkpoint holds its weights.
    "train__best_metric": "accuracy",
}
NEWEST = checkpoint_name(step=6, epoch=1)


def flip(path: Path) -> None:
    """Flip one bit in the middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def truncate(path: Path) -> None:
    """Lose the last byte."""
    path.write_bytes(path.read_bytes()[:-1])


DAMAGES: list[tuple[str, Callable[[Path], None]]] = [
    ("MANIFEST.json", flip),
    ("MANIFEST.json", Path.unlink),
    ("rank-00000/model.safetensors", flip),
    ("rank-00000/best.safetensors", flip),
    ("rank-00000/best.safetensors", Path.unlink),
    ("rank-00000/rng.safetensors", truncate),
    ("rank-00001/optimizer.safetensors", flip),
    ("rank-00001/state.json", flip),
    ("rank-00001/rng.safetensors", Path.unlink),
]


@pytest.fixture(scope="module")
def prepared(
    tmp_path_factory: pytest.TempPathFactory, fork_server: ForkServer
) -> tuple[Bench, Outcome]:
    """A job with checkpoints of the steps 3 and 6, and its uninterrupted outcome."""
    root = tmp_path_factory.mktemp("prepared")
    whole = uninterrupted(root, fork_server, **CHANGES)
    job = bench(root, "job", fork_server, **CHANGES)
    # Killed at step 7: the periodic checkpoints are all there is.
    assert job.attempt(fault="loop.after_step:kill@7").exit_code == 1
    names = sorted(path.name for path in job.job.checkpoints.glob("step-*"))
    assert names == [checkpoint_name(step=3, epoch=1), NEWEST]
    return job, whole


@pytest.mark.parametrize(("file", "damage"), DAMAGES)
def test_damage_is_reported_and_costs_only_that_checkpoint(
    prepared: tuple[Bench, Outcome], file: str, damage: Callable[[Path], None]
) -> None:
    """Whatever file is damaged however: quarantined, said, and the outcome is the same."""
    job, whole = prepared
    untouched = job.state.path.with_name("untouched")
    shutil.copytree(job.state.path, untouched)
    try:
        damage(job.job.checkpoints / NEWEST / file)
        ended = job.attempt()

        assert ended.exit_code == 0, ended.log()
        assert outcome(job) == whole
        assert job.result.resumed_steps == (3,)
        assert job.result.exact
        (report,) = ended.progress.reports
        assert NEWEST in report
        assert "quarantined" in report
        assert job.result.environment["reports"] == [report]
        assert list((job.job.checkpoints / "quarantine").iterdir())
    finally:
        shutil.rmtree(job.state.path)
        untouched.rename(job.state.path)


def test_when_all_are_damaged_it_begins_anew_and_keeps_the_evidence(
    prepared: tuple[Bench, Outcome],
) -> None:
    """No checkpoint is usable: the run starts from step 0 and ends in the same bits."""
    job, whole = prepared
    untouched = job.state.path.with_name("untouched")
    shutil.copytree(job.state.path, untouched)
    try:
        for checkpoint in job.job.checkpoints.glob("step-*"):
            flip(checkpoint / "rank-00000/optimizer.safetensors")
        ended = job.attempt()

        assert ended.exit_code == 0, ended.log()
        assert outcome(job) == whole
        assert job.result.resumed_steps == ()
        assert len(ended.progress.reports) == 2
    finally:
        shutil.rmtree(job.state.path)
        untouched.rename(job.state.path)
