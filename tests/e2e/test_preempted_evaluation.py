"""A notice during an evaluation ends it on all ranks at once; what was scored stays scored."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from typing import Any

import pytest

from jobs.contract.records import Outcome as Ending
from tests.e2e.comparison import bench, outcome, uninterrupted
from tests.e2e.harness import TINY, Attempted
from worker.forkserver import ForkServer

pytestmark = pytest.mark.e2e

DEV, TEST = "evaluate.before_dev_round", "evaluate.before_test_round"
# So many rounds that a rank which runs ahead (weights this small are gathered once, and kept) is
# not through before the other one's notice is heard.
MANY = 60
# An embedding above DeepSpeed's threshold: ZeRO-3 really partitions it, so forward passes
# contain collectives and no rank may give up alone.
PARTITIONED = {
    "method": {"name": "full"},
    "engine__zero_stage": 3,
    "model__config": TINY | {"n_layer": 1, "vocab_size": 4096},
}


@pytest.mark.parametrize(
    ("ranks", "changes", "held_out"),
    [(1, {}, 11), (2, {"engine__zero_stage": 2}, 11), (2, PARTITIONED, MANY)],
    ids=["one", "two", "two-partitioned"],
)
def test_preempted_while_evaluating_and_testing(
    tmp_path: Path, fork_server: ForkServer, ranks: int, changes: dict[str, Any], held_out: int
) -> None:
    """Stopped in the first dev evaluation, in the last one and in the test: the same bits."""
    changes = {**changes, "engine__ranks": ranks, "held_out": held_out}
    whole = uninterrupted(tmp_path, fork_server, **changes)
    job = bench(tmp_path, "broken", fork_server, **changes)

    first = job.attempt(stop_at=2, point=DEV)
    assert first.exit_code == 75, first.log()
    assert first.exit().outcome is Ending.SAVED
    assert first.progress.committed_step == 4  # where the first evaluation is due

    testing = job.attempt(stop_at=1, point=TEST)
    assert testing.exit_code == 75, testing.log()
    assert testing.progress.phase == "testing"
    assert testing.progress.committed_step == 12

    again = job.attempt(stop_at=2, point=TEST)
    assert again.exit_code == 75, again.log()
    assert again.exit().outcome is Ending.NO_PROGRESS

    job.until_done(limit=1)
    assert outcome(job) == whole
    assert job.result.exact


@pytest.mark.parametrize("rank", [0, 1])
def test_a_notice_to_one_rank_alone_stops_both_at_one_step(
    tmp_path: Path, fork_server: ForkServer, rank: int
) -> None:
    """Only one rank gets the signal, while training and while evaluating; nobody hangs."""
    changes = {"engine__ranks": 2, "engine__zero_stage": 1}
    whole = uninterrupted(tmp_path, fork_server, **changes)
    job = bench(tmp_path, "broken", fork_server, **changes)
    # 7 rounds each: the ninth lies in the second evaluation, at step 8.
    for point, count in (("loop.after_step", 2), (DEV, 9)):
        launched = job.start(fault=f"{point}[rank={rank}]:stop@{count}")
        try:
            stopped = launched.wait_stopped(rank)
            stopped.signal(signal.SIGTERM)
            stopped.signal(signal.SIGCONT)
            ended = launched.wait()
        finally:
            launched.end()
        records = [ended.exit(0), ended.exit(1)]

        assert ended.exit_code == 75, ended.log(0) + ended.log(1)
        assert {record.outcome for record in records} == {Ending.SAVED}
        assert {record.cause for record in records} == {"preemption"}
        assert len({record.last_step for record in records}) == 1
    job.until_done(limit=1)

    assert outcome(job) == whole


def taken_over(ended: Attempted) -> int:
    """Return how many batches of the last evaluation that said so came from earlier attempts."""
    said = re.findall(r"(\d+) of \d+ batches were scored by earlier attempts", ended.log())
    return int(said[-1]) if said else 0


@pytest.mark.parametrize(
    ("ranks", "changes", "held_out"),
    [(1, {}, 11), (2, PARTITIONED, MANY)],
    ids=["one", "two-partitioned"],
)
def test_a_test_goes_on_where_it_was_stopped_or_killed(
    tmp_path: Path, fork_server: ForkServer, ranks: int, changes: dict[str, Any], held_out: int
) -> None:
    """Stopped with notice, then killed without: each attempt scores only what is missing."""
    changes = {**changes, "engine__ranks": ranks, "held_out": held_out}
    whole = uninterrupted(tmp_path, fork_server, **changes)
    job = bench(tmp_path, "broken", fork_server, **changes)

    noticed = job.attempt(stop_at=2, point=TEST)
    assert noticed.exit_code == 75, noticed.log()
    assert noticed.progress.to_evaluate == held_out
    safe = noticed.progress.evaluated
    assert safe is not None
    assert safe >= ranks

    killed = job.attempt(stop_at=2, point=TEST, sends=signal.SIGKILL)
    assert killed.exit_code != 0
    assert taken_over(killed) >= safe  # weights this small need no gathering: ranks drift apart

    last = job.attempt()
    assert last.exit_code == 0, last.log()
    assert taken_over(last) > safe  # the first append of an attempt waits for nothing
    assert outcome(job) == whole
    assert [path.name for path in job.last.predictions.iterdir()] == ["test.jsonl"]
