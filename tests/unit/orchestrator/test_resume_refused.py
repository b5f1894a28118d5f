"""A refused resume ends the job once, says what helps, and goes on by a person's word."""

from __future__ import annotations

import pytest

from jobs.contract.records import (
    RESUME_REFUSED,
    ErrorRecord,
    ExitRecord,
    Outcome,
    TasksRecord,
    read_record,
)
from jobs.geometry import BadGeometry
from jobs.history import AttemptHistory, JobHistory
from jobs.retry import Stop, decide
from jobs.states import JobState
from jobs.waivers import Waiver
from orchestrator.explanation import explain
from orchestrator.facts import EndClass
from orchestrator.inquiry import Inquiry
from orchestrator.schedulers.base import TaskState
from tests.contract.stub import make_spec
from tests.unit.orchestrator.test_explanation import circumstances
from tests.unit.orchestrator.world import World

SPEC = make_spec(3, steps=10, retry={"exceptions": 5})
MESSAGE = (
    "checkpoint step-00000004.e0001 is not what this attempt would go on with: library_versions:"
    " torch 2.12 when saved, 2.13 now. Restore what differs, or let it pass:"
    f" orch retry {SPEC.id[:8]} --waive library_versions"
)
RECORD = ExitRecord(
    epoch=1,
    rank=0,
    outcome=Outcome.CONFIGURATION,
    exit_code=78,
    last_step=0,
    error=ErrorRecord(type=RESUME_REFUSED, message=MESSAGE, digest="d"),
)


@pytest.fixture
def refused(world: World) -> World:
    """Return a world in which the only job's second attempt refused to resume."""
    world.submit([SPEC])
    (key,) = world.task_keys()
    world.begin(key, SPEC)
    world.tick(1.0)
    world.service.state.job(SPEC.id).attempt(1).exit_record(0).write_bytes(RECORD.to_json())
    world.fake.end(key, TaskState.FAILED, exit_code=78)
    world.tick(1.0)
    return world


def newest_tasks(world: World) -> TasksRecord:
    """Return tasks.json of the newest submission."""
    path = world.service.state.submission(world.task_keys()[-1].token).tasks
    record = read_record(path, TasksRecord)
    assert record is not None
    return record


def test_it_is_a_failure_of_its_own_and_is_not_tried_again(refused: World) -> None:
    """Whatever budgets there are: the next attempt would refuse as well."""
    for _ in range(5):
        refused.tick(400.0)

    assert refused.state(SPEC) is JobState.FAILED
    assert len(refused.task_keys()) == 1
    row = refused.service.rows(SPEC.id)[0]
    assert row.reason == f"resume refused: {MESSAGE}"
    _, (attempt,) = Inquiry(refused.home).timeline(SPEC.id)
    assert attempt.end_class == EndClass.RESUME_REFUSED


def test_the_explanation_has_the_command_that_lets_it_pass(refused: World) -> None:
    """And the other way: put it right and retry."""
    row = refused.service.rows(SPEC.id)[0]

    said = explain(circumstances(JobState.FAILED, row_reason=row.reason, row_id=SPEC.id))

    assert "torch 2.12 when saved, 2.13 now" in said.answer
    assert [action.do for action in said.next] == [
        f"orch retry {SPEC.id[:8]}",
        f"orch retry {SPEC.id[:8]} --waive library_versions",
    ]


def test_a_waiver_goes_with_every_later_submission_of_the_job(refused: World) -> None:
    """Beside those of the matrix, each once; the event says who let what pass."""
    assert refused.service.again(SPEC.id, waive=[Waiver.LIBRARY_VERSIONS]) == [SPEC.name]
    refused.tick(1.0)
    assert newest_tasks(refused).tasks[0].waivers == ("device_model", "library_versions")

    key = refused.task_keys()[-1]
    refused.begin(key, SPEC, epoch=2, step=6)
    refused.tick(1.0)
    refused.fail(SPEC, Outcome.SAVED, epoch=2)
    refused.fake.end(key, TaskState.PREEMPTED, exit_code=75)
    refused.tick(1.0)
    refused.tick(400.0)

    assert len(refused.task_keys()) == 3
    assert newest_tasks(refused).tasks[0].waivers == ("device_model", "library_versions")
    events = [e.cause for e in refused.service.events(SPEC.id) if e.kind == "wish"]
    assert events == ["waived by a person: library_versions"]


def test_a_job_that_is_not_stopped_is_not_changed(world: World) -> None:
    """`orch retry` of a running job does nothing, and so does its waiver."""
    world.submit([SPEC])

    assert world.service.again(SPEC.id, waive=[Waiver.RNG]) == []
    assert newest_tasks(world).tasks[0].waivers == ("device_model",)


def test_another_number_of_ranks_is_asked_of_the_scheduler(refused: World) -> None:
    """And is told to the attempt; the spec stays."""
    two = refused.service.again(SPEC.id, ranks=2)
    refused.tick(1.0)

    assert two == [SPEC.name]
    tasks = newest_tasks(refused)
    assert tasks.tasks[0].overrides.ranks == 2
    asked = [str(what).partition(" ")[0] for verb, what in refused.fake.log if verb == "check"]
    assert asked == ["1", "2"]
    refused.service.hold(SPEC.id)
    with pytest.raises(BadGeometry, match="possible are"):
        refused.service.again(SPEC.id, ranks=3)


def test_the_batch_script_stops_with_the_same_words() -> None:
    """With nobody watching, nothing is tried again either."""
    history = JobHistory(job=SPEC.id, attempts=(AttemptHistory(epoch=1, exits=(RECORD,)),))

    verdict = decide(history, SPEC.run.retry, unattended=True)

    assert isinstance(verdict, Stop)
    assert verdict.reason == f"resume refused: {MESSAGE}"
