"""What a tick finds out about the watcher job, for those who only look."""

from __future__ import annotations

from pathlib import Path

from durable.files import publish_file
from orchestrator.observation import publish_watcher_job
from orchestrator.rows import WatcherJobSeen
from orchestrator.schedulers.base import Accepted, TaskKey, TaskState
from orchestrator.watcher_job import WatcherJobRecord, record_file
from tests.unit.orchestrator.world import SPECS, World
from tests.unit.slurm.requests import request

TOKEN = "0123456789abcdef"


def watched(home: Path) -> tuple[World, TaskKey]:
    """Jobs that wait, and a watcher job that waits beside them."""
    world = World(home)
    world.submit(SPECS)
    outcome = world.fake.submit(request(directory=str(home / "w"), token=TOKEN, indices=(0,)))
    assert isinstance(outcome, Accepted)
    record = WatcherJobRecord(
        token=TOKEN, submitted_at=0.0, scheduler_id=outcome.scheduler_id, scheduler="fake"
    )
    publish_file(record_file(world.service.state), record.to_json())
    return world, TaskKey(token=TOKEN, scheduler_id=outcome.scheduler_id, index=0)


def asked(world: World) -> list[object]:
    """Return about how many tasks the cluster was asked in each of its listings."""
    return [count for what, count in world.fake.log if what == "observe"]


def test_a_tick_sees_the_watcher_job_in_the_listing_of_its_tasks(tmp_path: Path) -> None:
    """It waits, runs and is over; whoever reads knows which, without asking the scheduler."""
    world, key = watched(tmp_path)
    assert world.service.watcher().job is None
    for do, words in (
        (lambda: None, ("pending", True)),
        (lambda: world.fake.start(key), ("running", True)),
        (lambda: world.fake.end(key, TaskState.COMPLETED, exit_code=0), ("completed", False)),
    ):
        do()
        world.fake.log.clear()
        world.tick()
        job = world.service.watcher().job
        assert job is not None
        assert (job.state, job.live, job.seen_at) == (*words, world.clock.wall())
        assert job.task == f"{key.scheduler_id}_0"
        assert asked(world) == [len(SPECS) + 1]


def test_one_that_is_over_is_not_asked_about_again(tmp_path: Path) -> None:
    """The queue forgets it soon, and accounting would be asked at every tick for ever."""
    world, key = watched(tmp_path)
    world.fake.start(key)
    world.fake.end(key, TaskState.COMPLETED, exit_code=0)
    world.tick()
    seen = world.service.watcher().job
    world.fake.log.clear()

    world.tick()

    assert world.service.watcher().job == seen
    assert asked(world) == [len(SPECS)]


def test_a_silent_scheduler_changes_nothing_and_a_new_job_is_looked_at(tmp_path: Path) -> None:
    """What was seen stays, with its age; what was seen of an earlier job says nothing of this."""
    world, _ = watched(tmp_path)
    old = WatcherJobSeen(
        token="earlier", task="1_0", state="completed", reason="", live=False, seen_at=1.0
    )
    publish_watcher_job(world.service.state, old)
    world.tick()
    seen = world.service.watcher().job
    assert seen is not None
    assert (seen.token, seen.live) == (TOKEN, True)

    world.fake.unreachable = 1
    world.tick(500.0)

    assert world.service.watcher().job == seen


def test_without_a_watcher_job_nothing_is_said(tmp_path: Path) -> None:
    """Also where the record is no record."""
    world = World(tmp_path)
    world.submit(SPECS[:1])
    record_file(world.service.state).write_text("{")
    world.tick()

    assert world.service.watcher().job is None
