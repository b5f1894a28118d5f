"""kill -9 of each rank at every fault point of a save: the previous checkpoint loads."""

from __future__ import annotations

from pathlib import Path

import pytest

from checkpoints.fault_points import FAULT_POINTS as STORE_POINTS
from checkpoints.store import CheckpointStore
from jobs.spec import semantic_digest
from tests.e2e.comparison import bench, outcome, uninterrupted
from tests.e2e.harness import BEHIND, Bench
from worker.forkserver import ForkServer

pytestmark = [pytest.mark.e2e, pytest.mark.crash]

EACH_RANK = [
    "snapshot.captured",
    "background.before_start",
    "save.before_stage",
    "save.after_stage",
]
EACH_RANK += [name for name in STORE_POINTS if name.startswith("stage.")]
RANK_0 = ["metrics.before_flush"]
RANK_0 += [name for name in STORE_POINTS if name.startswith("commit.")]
COMMITTED = "commit.after_rename"


def verified(job: Bench) -> list[str]:
    """Return the names of all committed checkpoints; each must be whole."""
    store = CheckpointStore(
        job.job.checkpoints, job=job.spec.id, spec_digest=semantic_digest(job.spec.semantic)
    )
    for name in store.candidates():
        store.verify(name)
    return store.candidates()


def test_a_rank_killed_while_saving_costs_that_save_only(
    tmp_path: Path, fork_server: ForkServer
) -> None:
    """The next attempt resumes from what was committed, whichever rank died where."""
    changes = {"engine__ranks": 2, "engine__zero_stage": 2}
    whole = uninterrupted(tmp_path, fork_server, **changes)
    job = bench(tmp_path, "broken", fork_server, run=BEHIND, **changes)
    job.rank_timeout = 2.0
    assert job.attempt(stop_at=1).exit_code == 75
    (committed,) = verified(job)
    points = [(name, 0) for name in RANK_0 if name != COMMITTED]
    points += [(name, rank) for name in EACH_RANK for rank in (0, 1)]
    for name, rank in [*points, (COMMITTED, 0)]:
        ended = job.attempt(fault=f"{name}[rank={rank}]:kill")

        assert ended.rank_exit_codes[rank] == -9, f"{name} was not reached: {ended.log(rank)}"
        assert ended.progress.resumed_from == committed, name
        candidates = verified(job)
        assert committed in candidates
        assert (candidates[0] != committed) == (name == COMMITTED), name
    job.until_done(limit=1)

    assert outcome(job) == whole
    assert job.result.exact
    assert not list((job.job.checkpoints / "staging").iterdir())
