"""Publishing a result: of two copies that both passed the fence, one leaves all that is there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from checkpoints.errors import Fenced
from jobs.contract.paths import StateDir
from jobs.contract.records import ResultRecord, TaskRecord, TasksRecord, read_record
from jobs.spec import JobSpec, Run, job_id, semantic_digest
from tests.e2e.harness import semantic
from worker import publication
from worker.attempt import Assignment, Attempt
from worker.claim import claim
from worker.layout import Layout
from worker.publication import publish_result, withdraw_older


@pytest.fixture
def assignment(tmp_path: Path) -> Assignment:
    """A job that nobody has begun."""
    what = semantic(tmp_path / "task")
    spec = JobSpec(id=job_id(what), name="tiny", semantic=what, run=Run())
    state = StateDir(tmp_path / "orch")
    state.job(spec.id).path.mkdir(parents=True)
    task = TaskRecord(index=0, job=spec.id)
    return Assignment(
        submission=state.submission("t1"),
        tasks=TasksRecord(token="t1", scheduler="local", tasks=(task,)),
        task=task,
        job=state.job(spec.id),
        spec=spec,
        layout=Layout(rank=0, world_size=1, local_rank=0, hosts=(), index=0, scheduler_id=None),
    )


def begin(assignment: Assignment) -> Attempt:
    """Claim the next epoch, as rank 0 does."""
    record = claim(assignment.job, assignment.claim_wanted(0.0))
    withdraw_older(assignment.job, record.epoch)
    return Attempt(assignment=assignment, claim=record, rank_timeout=1.0)


def finish(attempt: Attempt) -> ResultRecord:
    """Publish a result, weights and a curve that name the epoch."""
    record = ResultRecord(
        job=attempt.spec.id,
        spec_digest=semantic_digest(attempt.spec.semantic),
        epoch=attempt.epoch,
        exact=True,
        metrics={},
        steps=attempt.training.train.steps,
    )
    mine = b"of epoch %d" % attempt.epoch
    job = attempt.job
    return publish_result(attempt, record, beside={job.metrics: mine, job.weights: mine})


def at(monkeypatch: pytest.MonkeyPatch, point: str, happens: Callable[[], object]) -> None:
    """Let something happen when an attempt first reaches a fault point."""
    waiting = [happens]

    def hit(name: str) -> None:
        if name == point and waiting:
            waiting.pop()()

    monkeypatch.setattr(publication, "hit", hit)


def published(assignment: Assignment) -> tuple[int | None, bytes, bytes]:
    """Return whose result, curve and weights are there."""
    job = assignment.job
    result = read_record(job.result, ResultRecord)
    beside = [path.read_bytes() if path.exists() else b"" for path in (job.metrics, job.weights)]
    return (result.epoch if result else None), beside[0], beside[1]


POINTS = ["publication.staged", "publication.checked", "publication.before_result"]


@pytest.mark.parametrize("point", POINTS)
def test_a_newer_copy_that_finished_in_between_is_not_overwritten(
    assignment: Assignment, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    """The older copy stood still there; neither its result nor its weights or curve come later."""
    older = begin(assignment)
    at(monkeypatch, point, lambda: finish(begin(assignment)))

    with pytest.raises(Fenced, match="epoch 2 holds the job"):
        finish(older)

    assert published(assignment) == (2, b"of epoch 2", b"of epoch 2")
    assert not older.directory.publishing.exists()


@pytest.mark.parametrize("point", POINTS)
def test_a_newer_copy_that_has_only_begun_keeps_the_older_one_from_publishing(
    assignment: Assignment, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    """It has seen no result and works: what would be published now would not be its own."""
    older = begin(assignment)
    newer: list[Attempt] = []
    at(monkeypatch, point, lambda: newer.append(begin(assignment)))

    with pytest.raises(Fenced, match="epoch 2 holds the job"):
        finish(older)
    assert published(assignment)[0] is None

    finish(newer[0])
    assert published(assignment) == (2, b"of epoch 2", b"of epoch 2")


def test_a_result_from_before_the_claim_took_effect_stands_with_what_lies_beside_it(
    assignment: Assignment,
) -> None:
    """Between claim and withdrawal the older copy may still publish; then all of it is its own."""
    older = begin(assignment)
    record = claim(assignment.job, assignment.claim_wanted(0.0))  # and dies, or is slow
    assignment.job.epoch(2).rename(assignment.job.path / "claim")  # the older one looks before it
    finish(older)
    (assignment.job.path / "claim").rename(assignment.job.epoch(2))
    withdraw_older(assignment.job, 2)

    standing = finish(Attempt(assignment=assignment, claim=record, rank_timeout=1.0))

    assert standing.epoch == 1
    assert published(assignment) == (1, b"of epoch 1", b"of epoch 1")


def test_something_else_of_that_name_is_left_and_named(assignment: Assignment) -> None:
    """A result.json that is none of this job is a person's to look at."""
    attempt = begin(assignment)
    assignment.job.result.write_text("{}")

    with pytest.raises(FileExistsError, match="is not a result of this job"):
        finish(attempt)
    assert assignment.job.result.read_text() == "{}"


def test_a_lost_file_without_a_newer_epoch_is_no_fence(
    assignment: Assignment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ignorance is not said to be a fence."""
    attempt = begin(assignment)
    gone = attempt.directory.publishing / "metrics.jsonl"
    at(monkeypatch, "publication.checked", gone.unlink)

    with pytest.raises(FileNotFoundError):
        finish(attempt)
    assert published(assignment)[0] is None
