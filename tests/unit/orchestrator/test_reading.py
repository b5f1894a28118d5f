"""Status of ten thousand jobs: a handful of queries, well below a second."""

from __future__ import annotations

import time
from pathlib import Path

from durable.clock import FakeClock
from orchestrator.database import Database
from orchestrator.overview import REPORTING_JOBS, of_rows
from orchestrator.reader import Reader
from orchestrator.schedulers.fake import FakeScheduler
from orchestrator.service import Service
from orchestrator.store import Store
from tests.contract.stub import make_spec

COUNT = 10_000


def fill(home: Path) -> None:
    """Write ten thousand queued jobs straight into the store."""
    home.mkdir(mode=0o700)
    database = Database(home / "orch.sqlite3")
    store = Store(database, FakeClock())
    spec = make_spec(1).to_json().decode()
    ids = [f"{number:016x}" for number in range(COUNT)]
    common = {"spec": spec, "at": 0.0, "total_steps": 3, "matrix": "d", "priority": 0}
    with store.writing(database.take_lease()):
        store.add_matrix(digest="d", name="many", path="m.yaml", cells=COUNT)
        jobs = [
            {"id": job, "seed_block": job, "name": f"job-{n}", **common}
            for n, job in enumerate(ids)
        ]
        database.run_many("job_add", jobs)
        members = [{"matrix": "d", "job": job, "position": n} for n, job in enumerate(ids)]
        database.run_many("matrix_job_add", members)
        for start in range(0, COUNT, 500):
            token = f"{start:016x}"
            store.add_submission(token, scheduler="fake", jobs=ids[start : start + 500])
            store.settle(token, "accepted", scheduler_id=str(start), reason="accepted")
    database.close()


def test_rows_of_ten_thousand_jobs_come_from_the_store_alone(tmp_path: Path) -> None:
    """No job directory exists, and it takes far less than a second."""
    fill(tmp_path / "home")
    service = Service.open(tmp_path / "home", scheduler=FakeScheduler())

    started = time.process_time()
    rows = service.rows(None)
    seconds = time.process_time() - started

    assert len(rows) == COUNT
    assert rows[7].matrices == ("many",)
    assert rows[7].scheduler_id == "0_7"
    assert seconds < 1.0
    assert len(service.rows("job-77")) == 1


def test_the_overview_of_a_huge_store_is_that_of_all_its_rows(tmp_path: Path) -> None:
    """The summary is made by queries that do not read the store whole; the outcome is the same."""
    home = tmp_path / "home"
    fill(home)
    database = Database(home / "orch.sqlite3")
    with database.writing(database.take_lease()):
        run = database._connection.execute
        run("UPDATE jobs SET state = 'FAILED', preemptions = 2 WHERE rowid % 1000 = 7")
        run("UPDATE jobs SET state = 'RUNNING', lost_steps = 3 WHERE rowid % 1000 = 3")
        run("UPDATE jobs SET state = 'HELD', reports = '[\"r\"]' WHERE rowid % 1000 = 900")
    database.close()
    reader = Reader(home)

    for limit in (3, 25, 50):
        summary = reader.overview(None, limit=limit)
        whole = of_rows(reader.rows(None), limit=limit)
        assert list(summary.rows) == list(whole.rows)
        assert (summary.tally, summary.open_jobs) == (whole.tally, whole.open_jobs)
        assert (summary.hidden, summary.reporting_jobs) == (whole.hidden, 10)
        assert list(summary.reporting) == list(whole.reporting)[:REPORTING_JOBS]
    assert len(reader.overview("many", limit=None).rows) == COUNT
    assert [row.id for row in reader.each()] == [row.id for row in reader.rows(None)]
