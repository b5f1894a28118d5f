"""A real controller and accounting that are down, hung or forgetful."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from orchestrator.devcluster.cluster import PrivateCluster
from orchestrator.schedulers import slurm_queries, slurm_submit
from orchestrator.schedulers.base import (
    Absent,
    Found,
    Known,
    Refused,
    TaskKey,
    TaskState,
    Uncertain,
    Unreachable,
)
from tests.slurm.private_cluster import StubJobs, slurm, until

pytestmark = pytest.mark.slurm
T = TaskState


@contextmanager
def stopped(cluster: PrivateCluster, daemon: str) -> Iterator[None]:
    """SIGSTOP a daemon for a while."""
    pid = cluster.daemon_pid(daemon)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def down(cluster: PrivateCluster, daemon: str) -> Iterator[None]:
    """SIGKILL a daemon and start it again afterwards."""
    os.kill(cluster.daemon_pid(daemon), signal.SIGKILL)
    try:
        yield
    finally:
        until(lambda: daemon not in cluster.status().daemons, "its end")
        cluster.start_daemon(daemon)
        until(lambda: cluster.status().answers, "the controller")


def test_a_submission_whose_answer_is_lost_is_uncertain_and_found_by_its_token(
    slurm_cluster: PrivateCluster, stub_jobs: StubJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hung controller takes the job and answers nobody: never submit blindly again (V2)."""
    monkeypatch.setattr(slurm_submit, "SBATCH_SECONDS", 2.0)
    request = stub_jobs.request(stub_jobs.specs(1, steps=200))

    with stopped(slurm_cluster, "slurmctld"):
        outcome = stub_jobs.scheduler.submit(request)

    assert isinstance(outcome, Uncertain)
    found = stub_jobs.scheduler.find(request.token)
    assert isinstance(found, Found)
    (scheduler_id,) = found.scheduler_ids
    key = TaskKey(token=request.token, scheduler_id=scheduler_id, index=0)
    stub_jobs.wait(key, T.RUNNING, T.PENDING)


def test_a_hung_controller_is_unreachable(
    slurm_cluster: PrivateCluster, stub_jobs: StubJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No answer within the time-out is no evidence; afterwards all is as before."""
    monkeypatch.setattr(slurm_queries, "QUERY_SECONDS", 1.0)
    (key,) = stub_jobs.submit(stub_jobs.specs(1, steps=200))

    with stopped(slurm_cluster, "slurmctld"):
        observation = stub_jobs.scheduler.observe([key])
        assert observation.unreachable
        assert isinstance(observation.answers[key], Unreachable)
        assert isinstance(stub_jobs.scheduler.find(key.token), Unreachable)
        assert stub_jobs.scheduler.cancel([key])[key] is not None

    monkeypatch.setattr(slurm_queries, "QUERY_SECONDS", 30.0)
    stub_jobs.wait(key, T.RUNNING)


def test_a_dead_controller_is_unreachable_and_comes_back_with_our_job(
    slurm_cluster: PrivateCluster, stub_jobs: StubJobs
) -> None:
    """`squeue` leaves with 1 after some seconds; the running task survives."""
    (spec,) = stub_jobs.specs(1, steps=200)
    (key,) = stub_jobs.submit([spec])
    stub_jobs.started(spec)
    time.sleep(6)  # the controller saves its state every 5 s; what is younger may be lost (V1)

    with down(slurm_cluster, "slurmctld"):
        assert isinstance(stub_jobs.look(key), Unreachable)
        outcome = stub_jobs.scheduler.submit(stub_jobs.request(stub_jobs.specs(1)))
        assert isinstance(outcome, Uncertain)

    stub_jobs.wait(key, T.RUNNING)
    assert len(stub_jobs.starts(spec)) == 1


def test_without_accounting_live_tasks_are_known_and_missing_ones_are_not_lost(
    slurm_cluster: PrivateCluster, stub_jobs: StubJobs
) -> None:
    """slurmdbd may be down for hours while jobs run."""
    live, ended = stub_jobs.specs(1, steps=200)[0], stub_jobs.specs(1, steps=1)[0]
    (live_key,) = stub_jobs.submit([live])
    (ended_key,) = stub_jobs.submit([ended])
    nobody = TaskKey(token=live_key.token, scheduler_id="999999", index=0)
    stub_jobs.started(live)

    with down(slurm_cluster, "slurmdbd"):
        until(stub_jobs.job(ended).result.exists, "the short job")
        answers = stub_jobs.scheduler.observe([live_key, nobody]).answers
        assert isinstance(answers[live_key], Known)
        assert isinstance(answers[nobody], Unreachable)
        # the queue remembers an end for MinJobAge
        assert stub_jobs.wait(ended_key, T.COMPLETED).exit_code == 0

    until(lambda: stub_jobs.look(nobody) == Absent(), "accounting to answer")


def test_what_the_queue_forgot_accounting_remembers(stub_jobs: StubJobs) -> None:
    """After MinJobAge squeue no longer knows a job; here it is made to forget at once."""
    (key,) = stub_jobs.submit(stub_jobs.specs(1, steps=1))
    end = stub_jobs.wait(key, T.COMPLETED)
    until(
        lambda: "COMPLETED" in slurm("sacct", "-X", "-n", "-j", key.scheduler_id, "-o", "State"),
        "accounting to know",
    )
    stub_jobs.scheduler.find(key.token)

    remembered = slurm_queries.read_accounts(array_ids=[key.scheduler_id])

    assert [(row.index, row.state, row.exit_code) for row in remembered.rows] == [
        (0, T.COMPLETED, end.exit_code or 0)
    ]
    assert slurm_queries.read_accounts(name=f"orch:{key.token}") == remembered


def test_a_job_name_with_a_newline_forges_nothing(stub_jobs: StubJobs) -> None:
    """Somebody's job name pretends to be a row about our task (V7); on the real commands."""
    (spec,) = stub_jobs.specs(1, steps=200)
    (key,) = stub_jobs.submit([spec])
    evil = f"x\n{key.scheduler_id}|0|COMPLETED|None||orch:{key.token}|"
    subprocess.run(
        ["sbatch", f"--job-name={evil}", "--output=/dev/null", "--wrap=sleep 60"], check=True
    )

    stub_jobs.wait(key, T.RUNNING)
    until(lambda: evil in [row.name for row in slurm_queries.read_queue()], "the evil job")
    until(
        lambda: any(
            "COMPLETED|None" in r.name for r in slurm_queries.read_accounts(name=None).rows
        ),
        "its record",
    )
    answer = stub_jobs.look(key)
    assert isinstance(answer, Known)
    assert answer.state is T.RUNNING


@pytest.mark.parametrize(
    ("site", "resources", "hint"),
    [
        ({"partition": "nosuch"}, {}, "`partition`"),
        ({"constraint": "nosuch"}, {}, "`constraint`"),
        ({"reservation": "nosuch"}, {}, "`reservation`"),
        ({}, {"memory_gb": 5000}, "memory_gb"),
        ({}, {"gpus_per_rank": 1}, "gpus"),
    ],
)
def test_real_refusals_are_permanent_and_name_the_key(
    slurm_cluster: PrivateCluster,
    tmp_path: Path,
    site: dict[str, str],
    resources: dict[str, object],
    hint: str,
) -> None:
    """What sbatch really says is in the table."""
    jobs = StubJobs(tmp_path / "orch", **{"partition": "low", **site})

    outcome = jobs.scheduler.submit(jobs.request(jobs.specs(1), resources=resources))

    assert isinstance(outcome, Refused), outcome
    assert outcome.permanent
    assert hint in outcome.hint


def test_a_thousand_tasks_are_observed_with_one_query(stub_jobs: StubJobs) -> None:
    """A full chunk: submitted at once, listed at once, cancelled at once."""
    count = 1000
    (spec,) = stub_jobs.specs(1, steps=1)
    request = stub_jobs.request([spec] * count)
    outcome = stub_jobs.scheduler.submit(request)
    slurm("scontrol", "hold", outcome.scheduler_id)  # type: ignore[union-attr]
    keys = [
        TaskKey(token=request.token, scheduler_id=outcome.scheduler_id, index=index)  # type: ignore[union-attr]
        for index in range(count)
    ]

    started = time.monotonic()
    answers = stub_jobs.scheduler.observe(keys).answers
    seconds = time.monotonic() - started
    print(f"\nobserving {count} tasks took {seconds:.3f} s")

    assert stub_jobs.scheduler.chunk_limit >= count
    assert all(isinstance(answer, Known) for answer in answers.values())
    assert sum(a.state is T.HELD for a in answers.values() if isinstance(a, Known)) > 900
    assert set(stub_jobs.scheduler.cancel(keys).values()) == {None}
