"""Clock jumps change nothing: no job is ended, lost, given out twice or held back by one."""

from __future__ import annotations

import pytest

from jobs.states import JobState
from orchestrator.continuity import Stamp, went_on
from orchestrator.schedulers.base import TaskState
from orchestrator.service import Service
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


# --- between two processes, as with cron


def replace_process(world: World) -> None:
    """Let another process go on with the state directory."""
    world.service.close()
    world.service = Service.open(world.home, scheduler=world.fake, clock=world.clock)


def tick_by_cron(world: World, seconds: float) -> None:
    """Let time pass and a new process look."""
    replace_process(world)
    world.tick(seconds)


@jumps
def test_a_jump_between_two_processes_stalls_loses_and_holds_nobody(
    world: World, jump: float
) -> None:
    """The first process's clocks stand beside its heartbeat; none of its moments is believed."""
    under_way(world)
    before = effects(world)
    world.clock.jump_wall(jump)

    for _ in range(3):
        tick_by_cron(world, 10)

    assert [row.state for row in world.service.rows()] == ["RUNNING", "QUEUED", "RUNNING"]
    assert effects(world) == before


def test_a_lost_heartbeat_file_proves_nothing(world: World) -> None:
    """Without the clocks of the last tick, a day's silence may be a jump."""
    under_way(world)
    before = effects(world)
    replace_process(world)
    (world.home / "heartbeat.json").unlink()
    world.clock.jump_wall(DAY)

    world.tick(10)

    assert effects(world) == before


def test_a_silent_attempt_is_found_out_by_processes_of_one_tick_each(world: World) -> None:
    """Time that passed evenly is believed: cron alone ends a stalled attempt."""
    world.submit([A])
    (key,) = world.task_keys()
    world.begin(key, A)

    for _ in range(4):
        tick_by_cron(world, 300)

    assert ("kill", key) in world.fake.log


def test_a_grace_is_not_cut_short_by_a_jump(world: World) -> None:
    """An attempt that saves has its whole time, under one process or the next."""
    world.submit([A])
    (key,) = world.task_keys()
    world.begin(key, A)
    world.tick()
    world.service.hold(A.id)
    assert "notify" in effects(world)
    world.clock.jump_wall(DAY)
    tick_by_cron(world, 1)
    world.clock.jump_wall(DAY)
    world.tick(1)

    assert "kill" not in effects(world)
    for _ in range(4):
        world.tick(A.run.grace_seconds)
    assert "kill" in effects(world)


@pytest.mark.parametrize("several", [True, False])
def test_a_request_that_may_still_arrive_is_waited_for_anew(world: World, several: bool) -> None:
    """Three searches within seconds and a jump are no quiet time."""
    world.fake.next_submit.append("lost_request")
    world.submit([A])
    world.clock.jump_wall(DAY)
    for _ in range(4):
        tick_by_cron(world, 1) if several else world.tick(1)
    assert effects(world).count("submit") == 1

    for _ in range(4):
        world.tick(100)
    assert effects(world).count("submit") == 2


@pytest.mark.parametrize(
    ("boot", "wall", "monotonic", "even"),
    [
        ("b", 400.0, 400.0, True),
        ("b", 420.0, 400.0, True),
        ("b", 440.0, 400.0, False),
        ("b", -400.0, 400.0, False),
        ("other", 300.0, -900.0, True),
        ("other", 3600.0, -900.0, False),
        ("other", -60.0, -900.0, False),
    ],
)
def test_only_what_both_clocks_say_is_proof(
    boot: str, wall: float, monotonic: float, even: bool
) -> None:
    """On another boot, only an error that can stall nobody is accepted."""
    before = Stamp(wall=1e9, monotonic=1e3, boot_id="b")
    now = Stamp(wall=1e9 + wall, monotonic=1e3 + monotonic, boot_id=boot)

    assert went_on(before, now) is even
    assert not went_on(None, now)
