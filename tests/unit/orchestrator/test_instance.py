"""A state directory that is not what its database takes it for is not written."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from durable.clock import FakeClock
from jobs.contract.paths import StateDir
from orchestrator.continuity import Stamp
from orchestrator.instance import (
    DatabaseMark,
    Instance,
    Place,
    StateRefused,
    instance_file,
    read_instance,
    settled_place,
)
from orchestrator.lease import Lease
from orchestrator.service import Service
from tests.unit.orchestrator.world import World

HERE = Place(path="/new", inode=7)
OLD = Instance(id="i", lease=5, journal=90, place=Place(path="/old", inode=7))
NEWEST = DatabaseMark(id="i", lease=5, journal=90, live=True)


def mark(**changes: object) -> DatabaseMark:
    """Return the newest database with changes."""
    values = {name: getattr(NEWEST, name) for name in ("id", "lease", "journal", "live")}
    return DatabaseMark(**{**values, **changes})  # type: ignore[arg-type]


def other(identity: str) -> Instance:
    """Return what lies at the old place now."""
    return Instance(id=identity, lease=5, journal=90, place=OLD.place)


@pytest.mark.parametrize(
    ("changed", "there", "inode", "path"),
    [
        ({"live": False}, None, 0, "/new"),  # moved, nothing under way
        ({"live": False}, other("x"), 9, "/new"),  # somebody else's is there now
        ({}, other("i"), 7, "/old"),  # the same directory by another name
    ],
)
def test_a_directory_whose_tasks_find_it_is_adopted(
    changed: dict[str, object], there: Instance | None, inode: int, path: str
) -> None:
    """The recorded place is the one that paths of tasks lead to."""
    place = settled_place(OLD, HERE, mark(**changed), there=there, inode=inode)

    assert place.path == path


@pytest.mark.parametrize(
    ("changed", "there", "inode", "words", "fix"),
    [
        ({}, None, 0, "was moved", "ln -s /new /old"),
        ({}, other("x"), 9, "was moved", "--moved"),
        ({}, other("i"), 9, "copy", "ORCH_HOME=/old"),
        ({"live": False}, other("i"), 9, "copy", "ORCH_HOME=/old"),
        ({"lease": 4}, None, 0, "older", "orch rebuild"),
        ({"journal": 89}, None, 0, "older", "orch rebuild"),
        ({"id": "x"}, None, 0, "another state directory", "orch rebuild"),
        ({"id": None, "lease": 0, "journal": 0}, None, 0, "older", "orch rebuild"),
    ],
)
def test_what_would_run_jobs_twice_is_refused_with_the_fix(
    changed: dict[str, object], there: Instance | None, inode: int, words: str, fix: str
) -> None:
    """A move under live tasks, a copy, an older or a foreign database."""
    with pytest.raises(StateRefused, match=words) as refused:
        settled_place(OLD, HERE, mark(**changed), there=there, inode=inode)

    assert fix in refused.value.fix


def test_a_newer_database_than_the_file_is_no_finding() -> None:
    """The file is written after the database; a crash lies between."""
    same = Place(path="/old", inode=8)

    assert settled_place(OLD, same, mark(lease=6, journal=99), there=None, inode=0) == same


def test_a_database_restored_from_a_backup_is_not_written(world: World, tmp_path: Path) -> None:
    """Also one that the same, long-lived lease wrote; readers still work."""
    world.submit()
    backup = tmp_path / "backup"
    shutil.copy(world.service.state.database, backup)
    (key, *_) = world.task_keys()
    world.fake.start(key)
    world.tick()
    world.service.close()
    shutil.copy(backup, StateDir(world.home).database)

    service = Service.open(world.home, scheduler=world.fake, clock=world.clock)
    before = service.state.database.read_bytes()
    with pytest.raises(StateRefused, match="older"):
        service.tick()

    assert service.state.database.read_bytes() == before
    assert len(service.rows()) == 3


def test_a_watchers_own_epoch_grows_old_in_a_backup_too(world: World, tmp_path: Path) -> None:
    """Within one lease the journal tells: the file follows each tick."""
    world.submit()
    lease = Lease(world.service.state, world.service._database, FakeClock(), verb="watch")
    lease.acquire()
    before = read_instance(world.service.state)
    with world.service.store.writing(lease.epoch):
        world.service.store.event("test", cause="c", decision="d")

    lease.beat(Stamp.of(FakeClock()))

    after = read_instance(world.service.state)
    assert before is not None
    assert after is not None
    assert (after.lease, after.journal) == (before.lease, before.journal + 1)
    lease.release()


def test_a_lost_database_is_not_begun_anew(world: World) -> None:
    """An empty database over existing jobs would run them all again."""
    world.submit()
    world.service.close()
    StateDir(world.home).database.unlink()

    with pytest.raises(StateRefused, match="missing") as refused:
        Service.open(world.home, scheduler=world.fake)

    assert "orch rebuild" in refused.value.fix
    assert not StateDir(world.home).database.exists()


def test_a_directory_that_moved_at_rest_is_adopted_with_an_event(
    world: World, tmp_path: Path
) -> None:
    """No task points to the old place."""
    world.submit()
    for key, task in world.fake.tasks():
        spec = next(row.id for row in world.service.rows() if row.id == task.job)
        world.service.cancel(spec)
        del key
    world.tick()
    world.tick()
    assert not world.service._database.mark().live
    world.service.close()
    world.home.rename(tmp_path / "new")

    service = Service.open(tmp_path / "new", scheduler=world.fake, clock=world.clock)
    service.tick()

    moved = [event for event in service.events() if event.kind == "moved"]
    assert [str(world.home) in event.cause for event in moved] == [True]
    known = read_instance(service.state)
    assert known is not None
    assert known.place.path == str(tmp_path / "new")


def test_a_move_under_live_tasks_and_a_copy_are_refused(world: World, tmp_path: Path) -> None:
    """Tasks hold absolute paths. A link from the old place is enough for them."""
    world.submit()
    world.service.close()
    shutil.copytree(world.home, tmp_path / "copy")
    with pytest.raises(StateRefused, match="is a copy of"):
        Service.open(tmp_path / "copy", scheduler=world.fake, clock=world.clock).tick()

    world.home.rename(tmp_path / "new")
    service = Service.open(tmp_path / "new", scheduler=world.fake, clock=world.clock)
    with pytest.raises(StateRefused, match="was moved"):
        service.tick()
    assert len(service.rows()) == 3

    world.home.symlink_to(tmp_path / "new")
    service.tick()


def test_an_unreadable_file_is_written_anew(world: World) -> None:
    """It is a witness, not the truth: a torn one must not stop the work."""
    world.submit()
    instance_file(world.service.state).write_text("{")

    world.tick()

    known = read_instance(world.service.state)
    assert known is not None
    assert known.id == world.service._database.mark().id
