"""What people do to tasks at Slurm behind orch's back: hold, requeue, requeue and hold."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from jobs.spec import JobSpec
from jobs.states import JobState
from orchestrator.service import Service
from tests.contract.stub import make_matrix
from tests.slurm.audit import audit
from tests.slurm.private_cluster import StubJobs, slurm, take_all_nodes, until

pytestmark = pytest.mark.slurm
STEPS = 20


class Watched:
    """Jobs under a service that looks whenever the test waits for something."""

    def __init__(self, jobs: StubJobs, count: int) -> None:
        self.jobs = jobs
        self.specs = jobs.specs(count, steps=STEPS, seconds_per_step=0.2)
        self.service = Service.open(jobs.home, scheduler=jobs.scheduler)
        self.service.submit([make_matrix(self.specs)])

    def task(self, spec: JobSpec) -> str:
        """Return a job's task as Slurm names it."""
        (row,) = self.service.rows(spec.id)
        assert row.scheduler_id is not None
        return row.scheduler_id

    def until(self, spec: JobSpec, state: JobState, words: str = "") -> None:
        """Look until a job is in a state with these words."""

        def there() -> bool:
            self.service.tick()
            (row,) = self.service.rows(spec.id)
            return row.state is state and words in row.reason

        until(there, f"{spec.name} to be {state}: {words}", every=0.5)

    def ended_well(self, *attempts: int) -> None:
        """Every job has its result after so many attempts, and nothing was charged."""
        for spec in self.specs:
            self.until(spec, JobState.COMPLETED)
        rows = [self.service.rows(spec.id)[0] for spec in self.specs]
        assert tuple(row.attempts for row in rows) == attempts
        found = audit(map(self.jobs.job, self.specs), steps=STEPS)
        assert found.violations == []
        ends = [
            end["class"]
            for spec in self.specs
            for end in self.service.store.database.rows("ends_of", {"job": spec.id})
        ]
        assert set(ends) <= {"preempted", "completed"}, ends


@pytest.fixture
def watched(stub_jobs: StubJobs) -> Iterator[Watched]:
    """Two jobs."""
    made = Watched(stub_jobs, 2)
    yield made
    made.service.close()


def test_a_task_that_a_person_holds_waits_for_that_person(stub_jobs: StubJobs) -> None:
    """Its sibling goes on; it is neither released nor submitted again by itself."""
    take_all_nodes(6)
    held = Watched(stub_jobs, 2)
    mine, other = held.specs
    slurm("scontrol", "hold", held.task(mine))

    held.until(mine, JobState.QUEUED, "JobHeld")
    held.until(other, JobState.COMPLETED)

    held.until(mine, JobState.QUEUED, "JobHeld")
    assert stub_jobs.starts(mine) == []
    assert held.service.release(mine.id) == [mine.name]
    held.ended_well(1, 1)
    held.service.close()


def test_a_persons_requeue_costs_nothing(watched: Watched) -> None:
    """The ranks save, Slurm puts the task back, and its script does not do so once more."""
    mine, other = watched.specs
    for spec in watched.specs:
        watched.jobs.started(spec)
    watched.until(mine, JobState.RUNNING)

    slurm("scontrol", "requeue", watched.task(mine))

    watched.ended_well(2, 1)
    assert watched.task(mine).partition("_")[0] == watched.task(other).partition("_")[0]


def test_a_persons_requeuehold_waits_for_that_person(watched: Watched) -> None:
    """It has run, was put back and held: shown so, and started again when it is released."""
    mine, other = watched.specs
    watched.jobs.started(mine)
    watched.until(mine, JobState.RUNNING)

    slurm("scontrol", "requeuehold", watched.task(mine))

    watched.until(mine, JobState.QUEUED, "held")
    watched.until(other, JobState.COMPLETED)
    watched.until(mine, JobState.QUEUED, "held")
    assert len(watched.jobs.starts(mine)) == 1
    assert watched.service.release(mine.id) == [mine.name]
    watched.ended_well(2, 1)
