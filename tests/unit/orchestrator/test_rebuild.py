"""A database made anew says of every job what the lost one said."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest

from durable.locks import Locked, SingleHolderLock
from jobs.contract.paths import StateDir
from jobs.contract.records import Outcome
from jobs.states import JobState
from orchestrator.database import LeaseLost
from orchestrator.rebuild import RebuildReport, rebuild
from orchestrator.rows import JobRow
from orchestrator.schedulers.base import TaskState
from orchestrator.service import Service
from tests.contract.stub import make_matrix, make_spec
from tests.unit.orchestrator.world import SPECS, World

A, B, C = SPECS


def lose(world: World) -> None:
    """Close the service and delete its database."""
    world.service.close()
    StateDir(world.home).database.unlink()


def again(world: World) -> RebuildReport:
    """Rebuild and open the service anew."""
    report = rebuild(StateDir(world.home), world.clock)
    world.service = Service.open(world.home, scheduler=world.fake, clock=world.clock)
    return report


def told(row: JobRow) -> tuple[object, ...]:
    """Return what of a row comes from disk and from the scheduler."""
    return (
        row.id, row.name, row.matrices, row.state, row.step, row.committed_step, row.epoch,
        row.attempts, row.preemptions, row.scheduler, row.scheduler_id,
    )  # fmt: skip


def settle(world: World) -> None:
    """Tick until nothing more happens."""
    for _ in range(3):
        world.tick(70)


def mixed(world: World) -> None:
    """Bring jobs into every state that a matrix under way has."""
    d, e, f = (make_spec(seed, steps=10) for seed in (4, 5, 6))
    world.submit([A, B, C, d, e, f], name="first")
    world.submit([C, B], name="second")
    keys = dict(zip([A.id, B.id, C.id, d.id, e.id, f.id], world.task_keys(), strict=True))
    for spec in (A, B, C, d):
        world.begin(keys[spec.id], spec)
    world.tick()
    world.finish(A)
    world.fake.end(keys[A.id], TaskState.COMPLETED, exit_code=0)
    world.fail(C, Outcome.CONFIGURATION)
    world.fake.end(keys[C.id], TaskState.FAILED, exit_code=78)
    world.fail(d, Outcome.SAVED)
    world.fake.preempt(keys[d.id], requeue=True)
    world.service.cancel(f.id)
    settle(world)
    world.begin(keys[d.id], d, epoch=2, step=7)
    settle(world)


def test_a_lost_database_comes_back_with_every_job_and_nothing_is_handed_over_twice(
    world: World,
) -> None:
    """Completed, running, failed, preempted and running again, waiting, cancelled."""
    mixed(world)
    before = [told(row) for row in world.service.rows()]
    results = [(row.id, row.metrics, row.exact) for row in world.service.results()]
    states = [row.state for row in world.service.rows()]
    assert states == ["COMPLETED", "RUNNING", "FAILED", "RUNNING", "QUEUED", "CANCELLED"]
    submits = [entry for entry in world.fake.log if entry[0] == "submit"]
    lose(world)

    report = again(world)
    settle(world)

    assert [told(row) for row in world.service.rows()] == before
    assert [(row.id, row.metrics, row.exact) for row in world.service.results()] == results
    assert [entry for entry in world.fake.log if entry[0] == "submit"] == submits
    assert (report.jobs, report.problems) == (6, ())
    assert report.kept is None


def test_before_the_first_tick_nothing_that_may_live_is_called_dead(world: World) -> None:
    """The scheduler is silent: its jobs wait for its word, and no job is due."""
    mixed(world)
    lose(world)

    report = again(world)
    world.fake.unreachable = 99
    world.tick(1000)
    world.tick(1000)

    states = [row.state for row in world.service.rows()]
    assert states == ["COMPLETED", "SUBMITTED", "FAILED", "SUBMITTED", "SUBMITTED", "CANCELLED"]
    assert report.looked_for == 1
    assert all("fake is asked" in row.reason for row in world.service.rows()[3:5])


def test_a_task_that_the_scheduler_never_had_is_given_out_after_its_patience(
    world: World,
) -> None:
    """Only complete searches over the quiet time say so; the attempt of before is not lost."""
    world.submit([A])
    (key,) = world.task_keys()
    world.begin(key, A)
    world.tick()
    world.fake.lose(key)
    lose(world)
    again(world)

    world.tick(1)
    assert world.state(A) is JobState.SUBMITTED
    settle(world)

    assert world.state(A) is JobState.QUEUED
    assert world.service.rows()[0].attempts == 1


def test_an_older_database_is_kept_with_its_journal_and_fenced(world: World) -> None:
    """What a backup knows of the past stays readable; who still holds it can write nothing."""
    world.submit()
    backup = world.home.parent / "backup"
    shutil.copy(world.service.state.database, backup)
    mixed_events = len(world.service.events())
    (key, *_) = world.task_keys()
    world.begin(key, A)
    world.tick()
    world.service.close()
    shutil.copy(backup, StateDir(world.home).database)
    paused = Service.open(world.home, scheduler=world.fake, clock=world.clock)
    held = paused._database.mark().lease

    report = again(world)

    with pytest.raises(LeaseLost), paused._database.writing(held):
        pass
    assert report.events_kept == mixed_events
    events = world.service.events()
    assert len({event.id for event in events}) == len(events)
    assert events[mixed_events].kind == "rebuilt"
    assert report.kept is not None
    kept = sqlite3.connect(report.kept)
    assert kept.execute("SELECT count(*) FROM jobs").fetchone()[0] == 3
    settle(world)
    assert world.state(A) is JobState.RUNNING


def test_a_database_that_is_none_is_kept_as_it_is(world: World) -> None:
    """Its bytes are evidence; a journal beside it must not be played into the new one."""
    world.submit()
    world.service.close()
    database = StateDir(world.home).database
    database.write_bytes(b"no database" * 100)
    journal = database.with_name(database.name + "-journal")
    journal.write_bytes(b"half a journal")

    report = again(world)

    assert report.kept is not None
    assert report.kept.read_bytes() == b"no database" * 100
    assert (report.kept.parent / f"{report.kept.name}-journal").read_bytes() == b"half a journal"
    assert not journal.exists()
    assert len(world.service.rows()) == 3


def test_a_matrix_that_nobody_asked_for_stays_unasked(world: World) -> None:
    """A submit that died before its wish left specs and a matrix; a rebuild must not run them."""
    from orchestrator import requests

    world.submit([A])
    requests.write_matrix(world.service.state, make_matrix([B], name="never"))
    lose(world)

    again(world)

    assert [row.id for row in world.service.rows()] == [A.id]


def test_a_directory_from_before_wishes_were_kept_is_rebuilt_from_its_matrices(
    world: World,
) -> None:
    """An upgrade must not make the old jobs unrecoverable."""
    world.submit()
    lose(world)
    shutil.rmtree(world.home / "requests")

    again(world)

    assert {row.id for row in world.service.rows()} == {spec.id for spec in SPECS}


def test_a_rebuild_beside_a_writer_is_refused(world: World) -> None:
    """One writer, also for this."""
    world.submit()
    before = StateDir(world.home).database.read_bytes()

    with SingleHolderLock(StateDir(world.home).lock, about={"verb": "watch"}):  # noqa: SIM117
        with pytest.raises(Locked):
            rebuild(StateDir(world.home), world.clock)

    assert StateDir(world.home).database.read_bytes() == before


def test_rebuilding_a_sound_database_changes_nothing_that_matters(world: World) -> None:
    """P7: the command may be repeated."""
    mixed(world)
    before = [told(row) for row in world.service.rows()]

    for number in (1, 2):
        world.service.close()
        report = again(world)
        settle(world)
        assert [told(row) for row in world.service.rows()] == before
        assert report.kept == Path(f"{StateDir(world.home).database}.kept-{number}")


def test_a_move_under_live_tasks_is_adopted_when_asked_for(world: World, tmp_path: Path) -> None:
    """Tasks of the old place are ended, their jobs go out again from the new one, uncharged."""
    world.submit()
    (first, *_) = world.task_keys()
    world.begin(first, A)
    world.tick()
    world.service.close()
    world.home.rename(tmp_path / "new")
    world.home = tmp_path / "new"
    world.service = Service.open(world.home, scheduler=world.fake, clock=world.clock)

    world.fake.unreachable = 1
    with pytest.raises(Exception, match="could not be ended"):
        world.service.adopt_here()
    lines = world.service.adopt_here()
    world.tick()

    assert "3 tasks ended" in lines[-1]
    states = {task.state for _, task in world.fake.tasks()[:3]}
    assert states == {TaskState.CANCELLED}
    assert len(world.fake.tasks()) == 6
    assert {row.state for row in world.service.rows()} == {JobState.QUEUED}
    assert world.service.adopt_here() == [f"{world.home} was not moved"]
