"""A job's life through the service, against the fake scheduler."""

from __future__ import annotations

import pytest

from jobs.states import JobState
from orchestrator.schedulers.base import TaskState
from orchestrator.service import NotFound, NotRunning
from tests.contract.stub import make_spec
from tests.unit.orchestrator.world import SPECS, World


def test_a_result_completes_and_is_shown(world: World) -> None:
    """With its metrics, and the axes in which the jobs differ."""
    world.submit()
    key = world.task_keys()[0]
    world.begin(key, SPECS[0])
    world.tick()
    world.finish(SPECS[0])
    world.fake.end(key, TaskState.COMPLETED, exit_code=0)
    world.tick()

    row, *others = world.service.results(None)
    assert (row.state, row.exact, row.metrics) == (
        JobState.COMPLETED,
        True,
        {"test": {"loss": 0.5}},
    )
    assert [r.axes for r in (row, *others)] == [{"seed": 1}, {"seed": 2}, {"seed": 3}]
    assert world.service.rows(SPECS[0].id)[0].step == 10


@pytest.mark.parametrize("changes", [{"job": "f" * 16}, {"spec_digest": "0" * 64}])
def test_a_foreign_result_is_put_aside_and_the_job_runs_again(
    world: World, changes: dict[str, object]
) -> None:
    """Its evidence stays; the next attempt can publish."""
    world.submit(SPECS[:1])
    (key,) = world.task_keys()
    world.begin(key, SPECS[0])
    world.tick()
    world.finish(SPECS[0], **changes)
    world.fake.end(key, TaskState.COMPLETED, exit_code=0)

    world.tick()

    directory = world.service.state.job(SPECS[0].id)
    assert not directory.result.exists()
    assert (directory.path / "result.rejected-1.json").exists()
    assert world.state(SPECS[0]) is JobState.RETRYING
    world.tick()
    assert len(world.task_keys()) == 2


def test_a_preempted_job_is_handed_over_again(world: World) -> None:
    """PREEMPTED and not requeued: a new task under a new token, counted as a preemption."""
    world.submit(SPECS[:1])
    (key,) = world.task_keys()
    world.begin(key, SPECS[0])
    world.tick()
    world.fake.preempt(key, requeue=False)

    world.tick()

    row = world.service.rows(SPECS[0].id)[0]
    assert (row.state, row.attempts, row.preemptions) == (JobState.QUEUED, 1, 1)
    assert len({key.token for key in world.task_keys()}) == 2


def test_a_requeued_job_keeps_its_task_and_loses_its_delay(world: World) -> None:
    """Slurm restarts it; the watcher only removes the two minutes."""
    world.submit(SPECS[:1])
    (key,) = world.task_keys()
    world.begin(key, SPECS[0])
    world.tick()
    world.fake.preempt(key, requeue=True)

    world.tick()
    world.begin(key, SPECS[0], epoch=2)
    world.tick()

    row = world.service.rows(SPECS[0].id)[0]
    assert ("undelay", (key,)) in world.fake.log
    assert (row.state, row.epoch, row.preemptions) == (JobState.RUNNING, 2, 1)
    assert len(world.task_keys()) == 1


def test_nothing_is_lost_while_the_scheduler_is_silent(world: World) -> None:
    """P6: hours of failed queries change no state and submit nothing."""
    world.submit()
    world.tick()
    before = [row.state for row in world.service.rows(None)]
    world.fake.unreachable = 10**6

    for _ in range(50):
        report = world.tick(seconds=600)

    assert report.unreachable
    assert [row.state for row in world.service.rows(None)] == before
    assert len(world.task_keys()) == 3


def test_a_task_that_the_controller_forgot_is_handed_over_again(world: World) -> None:
    """Three complete listings over a minute without it; never before."""
    world.submit(SPECS[:1])
    (key,) = world.task_keys()
    world.fake.lose(key)

    for _ in range(3):
        world.tick(seconds=20)
    assert world.task_keys() == []
    world.tick(seconds=30)
    world.tick(seconds=10)

    assert len(world.task_keys()) == 1
    assert world.state(SPECS[0]) is JobState.QUEUED


def test_cancel_ends_the_task_and_a_late_result_still_wins(world: World) -> None:
    """CANCELLED at once; the worker that was faster is believed."""
    world.submit()
    first, _, _ = world.task_keys()
    world.begin(first, SPECS[0])
    world.tick()

    assert world.service.cancel("stub") == [spec.name for spec in SPECS]

    assert {row.state for row in world.service.rows(None)} == {JobState.CANCELLED}
    cancelled = {key for verb, keys in world.fake.log if verb == "cancel" for key in keys}
    assert cancelled == set(world.task_keys())
    control = world.service.state.job(SPECS[0].id).control.read_text()
    assert '"cause":"cancel"' in control
    world.finish(SPECS[0])
    world.tick()
    assert world.state(SPECS[0]) is JobState.COMPLETED
    assert world.state(SPECS[1]) is JobState.CANCELLED
    assert world.service.cancel("stub") == []


def test_a_result_that_arrives_when_no_task_is_left_still_wins(world: World) -> None:
    """A node that only looked dead may still publish."""
    world.submit(SPECS[:1])
    (key,) = world.task_keys()
    world.begin(key, SPECS[0])
    world.tick()
    world.fake.end(key, TaskState.FAILED, exit_code=78)
    world.tick()
    assert world.state(SPECS[0]) is JobState.FAILED

    world.finish(SPECS[0])
    world.tick()

    assert world.state(SPECS[0]) is JobState.COMPLETED


def test_a_cancelled_job_that_is_submitted_again_runs(world: World) -> None:
    """A person may start it again; while its task still ends, it stays cancelled."""
    world.submit(SPECS[:1])
    world.service.cancel(SPECS[0].id)
    world.tick()

    world.submit(SPECS[:1])

    assert world.state(SPECS[0]) is JobState.QUEUED
    assert len(world.task_keys()) == 2


def test_a_rehearsal_follows_the_sites_sequence_once(world: World) -> None:
    """Control record, notice, and SIGKILL after the grace; the next attempt is left alone."""
    spec = make_spec(1, steps=10, grace_seconds=20.0, rehearsal={"at_step": 4})
    world.submit([spec])
    (key,) = world.task_keys()
    world.begin(key, spec, step=5)
    world.tick()
    world.tick(seconds=1)
    assert ("notify", key) in world.fake.log
    control = world.service.state.job(spec.id).control.read_text()
    assert '"cause":"rehearsal"' in control
    assert '"deadline_seconds":20.0' in control
    world.tick(seconds=10)
    assert ("kill", key) not in world.fake.log
    world.tick(seconds=15)
    assert ("kill", key) in world.fake.log
    world.tick()

    row = world.service.rows(spec.id)[0]
    assert (row.state, row.preemptions) == (JobState.QUEUED, 1)
    world.begin(world.task_keys()[-1], spec, epoch=2, step=9)
    for _ in range(3):
        world.tick(seconds=1)
    assert [verb for verb, _ in world.fake.log].count("notify") == 1


def test_preempt_waits_until_the_attempt_is_gone(world: World) -> None:
    """The verb ticks by itself when nobody watches."""
    world.submit(SPECS[:1])
    (key,) = world.task_keys()
    world.begin(key, SPECS[0])
    world.tick()
    world.fake.on_notify = lambda k: world.fake.end(k, TaskState.FAILED, exit_code=75)
    said: list[str] = []

    world.service.preempt(SPECS[0].name, on_line=said.append)

    assert any("notice" in line for line in said)
    assert world.service.rows(SPECS[0].id)[0].preemptions == 1
    with pytest.raises(NotRunning, match="QUEUED"):
        world.service.preempt(SPECS[0].name, on_line=said.append)


def test_a_failed_job_can_be_started_again(world: World) -> None:
    """`again` hands it over whatever its budget said."""
    world.submit(SPECS[:1])
    (key,) = world.task_keys()
    world.fake.end(key, TaskState.FAILED, exit_code=78)
    world.tick()
    assert world.state(SPECS[0]) is JobState.FAILED
    world.submit(SPECS[:1])
    assert world.state(SPECS[0]) is JobState.FAILED

    assert world.service.again(SPECS[0].name) == [SPECS[0].name]

    assert world.state(SPECS[0]) is JobState.QUEUED


@pytest.mark.parametrize("selector", ["stub", SPECS[1].name, SPECS[1].id[:6], SPECS[1].id])
def test_selectors(world: World, selector: str) -> None:
    """Matrix name, job name, id prefix of at least four."""
    world.submit()

    ids = {row.id for row in world.service.rows(selector)}

    assert ids == ({s.id for s in SPECS} if selector == "stub" else {SPECS[1].id})


def test_the_journal_tells_each_decision_with_its_cause(world: World) -> None:
    """From the wish to the hand-over, in order."""
    world.submit(SPECS[:1])

    kinds = [event.kind for event in world.service.events()]
    decisions = [event.decision for event in world.service.events(SPECS[0].id)]

    assert kinds == ["new", "intent", "state", "submission", "state"]
    assert decisions[0] == "NEW"
    assert decisions[-1].startswith("SUBMITTED -> QUEUED")


def test_a_job_may_be_named_as_a_listing_of_its_matrix_shows_it(world: World) -> None:
    """Narrow listings have neither the id nor the matrix in front; two matrices make it unclear."""
    one, two, three = (
        spec.model_copy(update={"name": name})
        for spec, name in zip(SPECS, ("a/lr=1", "a/lr=2", "b/lr=2"), strict=True)
    )
    world.submit([one, two], name="a")
    world.submit([three], name="b")

    assert [row.id for row in world.service.rows("lr=1")] == [one.id]
    with pytest.raises(NotFound, match="several matrices: say a/lr=2 or b/lr=2"):
        world.service.rows("lr=2")
    with pytest.raises(NotFound, match="no matrix or job"):
        world.service.rows("lr=")


def test_unknown_selectors_name_near_ones(world: World) -> None:
    """Not found says what there is."""
    with pytest.raises(NotFound, match="nothing was submitted"):
        world.service.rows("stub")
    world.submit()

    with pytest.raises(NotFound, match="near: stub"):
        world.service.rows("stab")
    with pytest.raises(NotFound, match="means 3 jobs"):
        world.service.job_dir("stub")
    with pytest.raises(NotFound):
        world.service.rows(SPECS[0].id[:3])
