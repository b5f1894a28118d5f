"""Clock jumps change nothing: no job is ended, lost, given out twice or held back by one."""

from __future__ import annotations

import pytest

from jobs.states import JobState
from orchestrator.schedulers.base import TaskState
from tests.unit.orchestrator.world import SPECS, World

DAY = 86_400.0
A, B, C = SPECS
jumps = pytest.mark.parametrize("jump", [DAY, -DAY])


def effects(world: World) -> list[str]:
    """Return what was done to the cluster; questions are not counted."""
    return [what for what, _ in world.fake.log if what not in ("find", "observe")]


def under_way(world: World) -> None:
    """Let one job run, one wait, and one be out of the scheduler's sight for a moment."""
    world.submit()
    first, _, third = world.task_keys()
    world.begin(first, A)
    world.begin(third, C)
    world.tick()
    world.fake.hide(third, 1)
    world.tick()


@jumps
def test_running_and_waiting_jobs_stay_what_they_are(world: World, jump: float) -> None:
    """A day forwards is no silence of a day, nor is a day back a heartbeat from the future."""
    under_way(world)
    before = effects(world)

    for _ in range(3):
        world.clock.jump_wall(jump)
        world.tick(10)

    assert [row.state for row in world.service.rows()] == ["RUNNING", "QUEUED", "RUNNING"]
    assert effects(world) == before


@jumps
def test_an_absent_task_is_not_called_lost_by_a_jump(world: World, jump: float) -> None:
    """Absence needs complete listings over real time; and it is found out all the same."""
    world.submit([A])
    (key,) = world.task_keys()
    world.tick()
    world.fake.lose(key)
    world.tick(1)
    world.clock.jump_wall(jump)
    world.tick(1)

    assert world.state(A) is JobState.QUEUED
    assert effects(world).count("submit") == 1

    for _ in range(12):
        world.tick(100)
    assert effects(world).count("submit") == 2


@jumps
def test_a_lost_answer_is_not_given_up_by_a_jump(world: World, jump: float) -> None:
    """The token is found; a second submission would run the job twice."""
    world.fake.next_submit.append("lost_ack")
    world.submit([A])
    world.fake.unreachable = 2
    world.clock.jump_wall(jump)
    world.tick(1)
    world.tick(1)
    world.tick(1)

    assert world.state(A) is JobState.QUEUED
    assert effects(world).count("submit") == 1


@jumps
def test_a_retry_that_is_due_comes_in_bounded_time(world: World, jump: float) -> None:
    """A back-off that was reckoned before a jump back must not hold the job for a day."""
    world.submit([A])
    (key,) = world.task_keys()
    world.begin(key, A)
    world.tick()
    world.fake.end(key, TaskState.NODE_FAIL)
    world.tick(0.1)
    assert world.state(A) is JobState.RETRYING
    world.clock.jump_wall(jump)

    for _ in range(40):
        world.tick(10)
    assert effects(world).count("submit") == 2


@jumps
def test_the_lease_and_the_place_do_not_depend_on_the_clock(world: World, jump: float) -> None:
    """A tick after a jump takes the lease as before."""
    world.submit()
    epoch = world.service._database.mark().lease
    world.clock.jump_wall(jump)

    world.tick()
    world.tick()

    assert world.service._database.mark().lease == epoch + 2
