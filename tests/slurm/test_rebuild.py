"""The database goes while Slurm runs and queues our jobs: the tokens bring every task back."""

from __future__ import annotations

import threading

import pytest

from durable.clock import SystemClock
from jobs.contract.records import ExitRecord, Outcome, read_record
from jobs.states import JobState
from orchestrator.facts import Patience
from orchestrator.rebuild import rebuild
from orchestrator.service import Service
from tests.contract.stub import make_matrix
from tests.slurm.private_cluster import StubJobs, slurm, until

pytestmark = pytest.mark.slurm


def test_a_lost_database_is_rebuilt_while_tasks_run_wait_and_end(stub_jobs: StubJobs) -> None:
    """Each job starts once, and each gets its result."""
    stub_jobs.scheduler.patience = Patience(
        absent_answers=2, absent_seconds=3.0, find_answers=2, quiet_seconds=3.0
    )
    specs = stub_jobs.specs(3, steps=40)
    (held,) = stub_jobs.specs(1, steps=2)
    service = Service.open(stub_jobs.home, scheduler=stub_jobs.scheduler)
    service.submit([make_matrix([*specs, held])])
    array = service.rows()[0].scheduler_id
    assert array is not None
    for spec in specs:
        stub_jobs.started(spec)
    service.tick()
    before = [(row.id, row.name, row.matrices) for row in service.rows()]
    service.close()
    stub_jobs.state.database.unlink()

    report = rebuild(stub_jobs.state, SystemClock())
    service = Service.open(stub_jobs.home, scheduler=stub_jobs.scheduler, tick_seconds=0.5)
    service.tick()
    service.tick()

    assert [(row.id, row.name, row.matrices) for row in service.rows()] == before
    assert (report.jobs, report.problems) == (4, ())
    assert {row.state for row in service.rows()} <= {JobState.RUNNING, JobState.COMPLETED}
    service.watch(until_idle=True, on_tick=lambda report: None, stop=threading.Event())
    assert {row.state for row in service.rows()} == {JobState.COMPLETED}
    assert all(len(stub_jobs.starts(spec)) == 1 for spec in (*specs, held))
    until(lambda: not slurm("squeue", "-h", "-o", "%i").strip(), "the queue to be empty")
    exits = [read_record(stub_jobs.job(s).attempt(1).exit_record(0), ExitRecord) for s in specs]
    assert {record.outcome for record in exits if record} == {Outcome.COMPLETED}
    service.close()
