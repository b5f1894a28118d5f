"""Generated answers are the same bits after a stop in the midst of writing them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.e2e.comparison import bench, outcome, uninterrupted
from tests.e2e.test_preempted_evaluation import MANY, PARTITIONED, TEST
from worker.forkserver import ForkServer

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize(
    ("ranks", "changes"), [(1, {}), (2, PARTITIONED)], ids=["one", "two-partitioned"]
)
def test_preempted_while_writing(
    tmp_path: Path, fork_server: ForkServer, ranks: int, changes: dict[str, Any]
) -> None:
    """The task's metrics are in the result, and a stop while testing changes nothing of it."""
    changes = {
        **changes,
        "held_out": MANY if ranks > 1 else 11,
        "engine__ranks": ranks,
        "task__metrics": ["squad_f1", "rougeL"],
        "task__max_new_tokens": 3,
        "train__best_metric": "rougeL",
    }
    whole = uninterrupted(tmp_path, fork_server, **changes)
    job = bench(tmp_path, "broken", fork_server, **changes)
    testing = job.attempt(stop_at=1, point=TEST)
    assert testing.exit_code == 75, testing.log()
    job.until_done(limit=1)
    assert outcome(job) == whole
    for split in ("dev", "test"):
        assert {"loss", "accuracy", "squad_f1", "rougeL"} <= set(job.result.metrics[split])
