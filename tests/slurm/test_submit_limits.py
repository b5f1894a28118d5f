"""Submit limits of a real Slurm: jobs trickle in under them, and wrong names never get there."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from jobs.spec import JobSpec
from jobs.states import JobState
from orchestrator.devcluster.cluster import PrivateCluster
from orchestrator.devcluster.config import ClusterOptions
from orchestrator.schedulers.base import Accepted, Passed, Refused
from orchestrator.service import Service
from tests.contract.stub import make_matrix
from tests.slurm.private_cluster import StubJobs, clear, point_at, slurm, start_cluster, until

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(300)]

LIMIT = 4
SETTINGS = {
    "MaxArraySize": "11",
    "MaxJobCount": "100",
    "AccountingStorageEnforce": "associations,limits,qos",
}
# `told`: the user's association says so. `untold`: a limit of the account, which only a refusal
# tells. `tight`: a QOS of `told` with a limit of its own.
ACCOUNTS = (
    ("add", "account", "told", "untold", "free"),
    ("add", "user", "root", "account=told,untold,free"),
    ("modify", "user", "root", "where", "account=told", "set", f"maxsubmit={LIMIT}"),
    ("modify", "account", "untold", "set", f"grpsubmit={LIMIT}"),
    ("add", "qos", "tight", "maxsubmitjobsperuser=2"),
    ("modify", "user", "root", "where", "account=told", "set", "qos+=tight"),
)


@cache
def limited_cluster() -> PrivateCluster | str:
    """Start a cluster with limits, once."""
    return start_cluster(ClusterOptions(nodes=2, extra=SETTINGS))


@cache
def add_accounts() -> None:
    """Tell accounting."""
    for words in ACCOUNTS:
        slurm("sacctmgr", "--immediate", *words)


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> Iterator[PrivateCluster]:
    """The cluster with limits; no job is left behind."""
    cluster = point_at(limited_cluster(), monkeypatch)
    add_accounts()
    yield cluster
    clear()


def submit_calls(service: Service) -> list[str]:
    """Return how each sbatch call ended, oldest first."""
    return [event.decision for event in service.events() if event.kind == "submission"]


def told(service: Service) -> str:
    """Return what jobs that are not done wait for, and the end of the journal."""
    open_ones = [row for row in service.rows() if row.state is not JobState.COMPLETED]
    waits = [f"{row.name}: {row.state} {row.reason}" for row in open_ones]
    journal = [f"{e.at:.1f} {e.kind} {e.decision} {e.cause}" for e in service.events()[-40:]]
    return "\n".join([*waits, *journal])


def run_dry(home: Path, count: int, **site: Any) -> tuple[Service, StubJobs, list[JobSpec]]:
    """Submit so many short jobs and watch, without a hand's touch, until nothing is left."""
    jobs = StubJobs(home, **site)
    specs = jobs.specs(count, steps=1, seconds_per_step=0.1)
    service = Service.open(home, scheduler=jobs.scheduler, tick_seconds=0.5)
    service.submit([make_matrix(specs)])
    stop = threading.Event()
    timer = threading.Timer(240, stop.set)
    timer.start()
    service.watch(until_idle=True, on_tick=lambda report: None, stop=stop)
    timer.cancel()
    rows = service.rows()
    assert {row.state for row in rows} == {JobState.COMPLETED}, told(service)
    assert [row.attempts for row in rows] == [1] * count
    assert all(len(jobs.starts(spec)) == 1 for spec in specs)
    return service, jobs, specs


def test_a_limit_that_accounting_tells_is_never_run_into(
    limits: PrivateCluster, tmp_path: Path
) -> None:
    """9 cells under MaxSubmit=4: all get through, and sbatch is never refused."""
    service, jobs, _ = run_dry(tmp_path / "orch", 9, account="told")

    assert (jobs.scheduler.chunk_limit, jobs.scheduler.submit_limit) == (10, LIMIT)
    assert set(submit_calls(service)) == {"accepted"}


def test_fifteen_cells_get_through_a_limit_of_four_that_nobody_tells(
    limits: PrivateCluster, tmp_path: Path
) -> None:
    """Refused as a whole, the chunk shrinks; refusals cost no attempt and are few."""
    service, jobs, _ = run_dry(tmp_path / "orch", 15, account="untold")

    assert jobs.scheduler.submit_limit is None
    calls = submit_calls(service)
    print(f"\n{calls.count('refused')} refused, {calls.count('accepted')} accepted")
    assert calls[0] == "refused"
    assert calls.count("refused") <= 7


def test_a_qos_has_a_limit_of_its_own(limits: PrivateCluster, tmp_path: Path) -> None:
    """The smaller of association and QOS counts."""
    jobs = StubJobs(tmp_path / "orch", account="told", qos="tight")

    assert jobs.scheduler.submit_limit == 2


def test_chunks_stay_below_max_array_size(limits: PrivateCluster, tmp_path: Path) -> None:
    """MaxArraySize 11: arrays of ten; 25 cells are three submissions."""
    jobs = StubJobs(tmp_path / "orch", account="free")
    specs = jobs.specs(25, steps=500)
    service = Service.open(jobs.home, scheduler=jobs.scheduler)

    report = service.submit([make_matrix(specs)])

    assert report.submitted == 25
    assert submit_calls(service) == ["accepted"] * 3
    assert len(slurm("squeue", "--noheader", "--array", "--format=%i").split()) == 25


@pytest.mark.parametrize(
    ("site", "key"),
    [
        ({"account": "nosuch"}, "`account`"),
        ({"account": "free", "partition": "nosuch"}, "`partition`"),
        ({"account": "free", "qos": "nosuch"}, "`qos`"),
        ({"account": "free", "constraint": "nosuch"}, "`constraint`"),
        ({"account": "free", "reservation": "nosuch"}, "`reservation`"),
    ],
)
def test_a_wrong_name_is_refused_before_the_first_submission(
    limits: PrivateCluster, tmp_path: Path, site: dict[str, str], key: str
) -> None:
    """Slurm's words and the key of site.yaml; nothing was submitted, not even an intent."""
    jobs = StubJobs(tmp_path / "orch", **site)
    service = Service.open(jobs.home, scheduler=jobs.scheduler)

    report = service.submit([make_matrix(jobs.specs(3))])

    (words,) = report.refused
    assert key in words
    assert "site.yaml" in words
    assert {(row.state, key in row.reason) for row in service.rows()} == {(JobState.HELD, True)}
    assert submit_calls(service) == []
    assert not (jobs.home / "submissions").exists()


def test_a_check_proves_nothing_where_nodes_are_counted(
    limits: PrivateCluster, tmp_path: Path
) -> None:
    """With every node drained --test-only calls impossible what sbatch takes and queues."""
    jobs = StubJobs(tmp_path / "orch", account="free")
    request = jobs.request(jobs.specs(1))
    assert jobs.scheduler.check(request) == Passed()

    slurm("scontrol", "update", "NodeName=n[1-2]", "State=DRAIN", "Reason=test")
    try:
        assert not isinstance(jobs.scheduler.check(request), Refused)
        assert isinstance(jobs.scheduler.submit(request), Accepted)
    finally:
        slurm("scontrol", "update", "NodeName=n[1-2]", "State=RESUME")


def test_a_full_controller_is_a_limit_and_not_two_minutes(
    limits: PrivateCluster, tmp_path: Path
) -> None:
    """At MaxJobCount sbatch would repeat itself; it is ended in its first sleep, without effect."""
    jobs = StubJobs(tmp_path / "orch", account="free")
    jobs.scheduler.site = jobs.site.model_copy(update={"extra": {"hold": True}})
    specs = jobs.specs(1) * 10
    for _ in range(12):
        there = len(slurm("squeue", "--noheader", "--array", "--format=%i").split())
        request = jobs.request(specs)
        started = time.monotonic()
        outcome = jobs.scheduler.submit(request)
        if isinstance(outcome, Refused):
            break

    assert isinstance(outcome, Refused), outcome
    assert (outcome.limit, outcome.permanent) == (True, False)
    print(f"\nrefused after {time.monotonic() - started:.1f} s")
    until(lambda: time.monotonic() - started > 4, "sbatch to have repeated itself, if it lived")
    assert len(slurm("squeue", "--noheader", "--array", "--format=%i").split()) == there
