"""Resume equals no interruption: the same bits, whatever stopped the run, wherever it stopped."""

from __future__ import annotations

import random
import signal
from pathlib import Path

import pytest

from jobs.contract.records import Outcome as Ending
from tests.e2e.comparison import bench, outcome, uninterrupted
from tests.e2e.harness import BEHIND, Bench
from worker.forkserver import ForkServer

pytestmark = pytest.mark.e2e


def interrupted(job: Bench, seed: int) -> Bench:
    """Run the job with three interruptions at seeded steps, one of them without notice."""
    choice = random.Random(seed)
    stops = [choice.randint(1, 4), choice.randint(1, 3), choice.randint(1, 3)]
    kill = choice.randrange(3)
    for number, steps in enumerate(stops):
        sends = signal.SIGKILL if number == kill else signal.SIGTERM
        ended = job.attempt(stop_at=steps, sends=sends)
        if number != kill:
            assert ended.exit_code == 75, ended.log()
    job.until_done()
    return job


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_three_preemptions_change_no_bit(
    tmp_path: Path, fork_server: ForkServer, stage: int, ranks: int
) -> None:
    """Weights, curve, test metrics and predictions equal those of the uninterrupted run."""
    changes = {"engine__zero_stage": stage, "engine__ranks": ranks}
    whole = uninterrupted(tmp_path, fork_server, **changes)
    job = interrupted(
        bench(tmp_path, "broken", fork_server, run=BEHIND, **changes), seed=stage * 10 + ranks
    )

    assert outcome(job) == whole
    assert len(job.result.resumed_steps) >= 2
    assert job.result.exact, job.result.inexact_reasons
    assert len(job.job.metrics.read_bytes().splitlines()) == 12


def test_the_best_weights_survive_preemptions(tmp_path: Path, fork_server: ForkServer) -> None:
    """With full tuning in bf16, the weights of an early best step are those that are tested."""
    changes = {
        "method": {"name": "full"},
        "engine__zero_stage": 2,
        "engine__ranks": 2,
        "engine__precision": "bf16",
        "train__lr": 0.2,  # overshoots: the last evaluation is not the best
    }
    whole = uninterrupted(tmp_path, fork_server, **changes)
    job = bench(tmp_path, "broken", fork_server, **changes)
    for steps in (6, 3):
        assert job.attempt(stop_at=steps).exit_code == 75
    job.until_done()

    assert whole.weights != whole.final_weights
    assert outcome(job) == whole


def test_cold_processes_give_the_same_bits(tmp_path: Path, fork_server: ForkServer) -> None:
    """New interpreters, and a killed launcher, whose ranks then save and leave: as the warm run."""
    changes = {"engine__ranks": 2, "engine__zero_stage": 1}
    whole = uninterrupted(tmp_path, fork_server, **changes)
    job = bench(tmp_path, "cold", None, **changes)
    launched = job.start(fault="loop.after_step[rank=0]:stop@5")
    try:
        launched.wait_stopped(0)
        launched.process.kill()
        launched.signal_ranks(signal.SIGCONT)
        ended = launched.wait()
    finally:
        launched.end()
    assert {ended.exit(rank).outcome for rank in (0, 1)} == {Ending.SAVED}
    job.until_done(limit=1)

    assert outcome(job) == whole
    assert job.result.resumed_steps in {(7,), (8,)}  # rank 1 was in step 5 or in step 6


def test_a_halved_micro_batch_keeps_the_meaning_and_says_so(
    tmp_path: Path, fork_server: ForkServer
) -> None:
    """The override trains on the same tokens with the same weights; the result is not "exact"."""
    from jobs.contract.records import Overrides

    changes = {"method__dropout": 0.0, "model__config": NO_DROPOUT}
    whole = bench(tmp_path, "whole", fork_server, **changes)
    whole.until_done(limit=1)
    job = bench(tmp_path, "halved", fork_server, **changes)
    assert job.attempt(stop_at=5).exit_code == 75
    job.submit(overrides=Overrides(micro_batch=1))
    job.until_done()

    assert job.result.metrics["test"]["loss"] == pytest.approx(
        whole.result.metrics["test"]["loss"], rel=1e-4
    )
    assert whole.result.exact
    assert not job.result.exact
    assert any("micro_batch" in reason for reason in job.result.inexact_reasons)


NO_DROPOUT = {
    "n_layer": 2,
    "n_head": 2,
    "n_embd": 32,
    "n_positions": 64,
    "resid_pdrop": 0.0,
    "embd_pdrop": 0.0,
    "attn_pdrop": 0.0,
}
