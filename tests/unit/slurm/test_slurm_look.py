"""How often Slurm is asked, with which words, and in which environment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from durable.clock import FakeClock
from orchestrator.schedulers import slurm_queries
from orchestrator.schedulers.base import Absent, Found, Known, TaskKey, TaskState, Unreachable
from orchestrator.schedulers.slurm import SlurmScheduler
from orchestrator.schedulers.slurm_commands import command_environment
from orchestrator.schedulers.slurm_look import ACT_SECONDS
from tests.unit.slurm.command_stubs import CommandStubs
from tests.unit.slurm.requests import TOKEN
from tests.unit.slurm.test_slurm_scheduler import NAME, SACCT, SQUEUE

KEYS = [TaskKey(token=TOKEN, scheduler_id="7", index=index) for index in range(3)]
STEPS = f'case "$*" in *--steps*) echo 7_0.0; echo 7_1.0; exit;; esac\n{SQUEUE}'
RUNNING = "\n".join(f"row 7 {key.index} RUNNING None {NAME}" for key in KEYS)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def scheduler(tmp_path: Path, clock: FakeClock) -> SlurmScheduler:
    return SlurmScheduler(tmp_path, clock=clock)


def test_one_tick_asks_once_for_searching_observing_and_acting(
    commands: CommandStubs, scheduler: SlurmScheduler
) -> None:
    """One squeue for any number of tasks and deeds, and one listing of steps."""
    commands.write("squeue", STEPS + RUNNING)
    commands.write("scancel", "exit 0")
    commands.write("scontrol", "exit 0")

    assert scheduler.find(TOKEN) == Found(scheduler_ids=("7",))
    assert len(scheduler.observe(KEYS).answers) == 3
    assert scheduler.notify(KEYS[0]) is None
    assert scheduler.notify(KEYS[1]) is None
    assert scheduler.kill(KEYS[1]) is None
    assert set(scheduler.cancel(KEYS).values()) == {None}
    scheduler.undelay(KEYS)

    asked = commands.calls("squeue")
    assert len(asked) == 2
    assert sum("--steps" in line for line in asked) == 1


def test_no_listing_counts_twice(commands: CommandStubs, scheduler: SlurmScheduler) -> None:
    """Patience counts complete listings: each observation and each search needs its own."""
    commands.write("squeue", "true")
    commands.write("sacct", "true")

    for expected in (1, 2, 3):
        assert scheduler.observe(KEYS[:1]).answers == {KEYS[0]: Absent()}
        assert len(commands.calls("squeue")) == expected
    assert scheduler.find(TOKEN) == Found(scheduler_ids=())
    assert scheduler.find("f" * 16) == Found(scheduler_ids=())
    assert len(commands.calls("squeue")) == 3  # both searched the third listing
    scheduler.find(TOKEN)
    assert len(commands.calls("squeue")) == 4


@pytest.mark.parametrize("jump", [ACT_SECONDS + 1, -1.0])
def test_a_token_is_never_checked_on_an_old_look(
    commands: CommandStubs, scheduler: SlurmScheduler, clock: FakeClock, jump: float
) -> None:
    """The id may have been lost and issued again: then the stranger is left alone."""
    commands.write("squeue", SQUEUE + RUNNING)
    commands.write("scancel", "exit 0")
    commands.write("scontrol", "exit 0")
    scheduler.observe(KEYS)
    commands.write("squeue", SQUEUE + "row 7 0 RUNNING None stranger")

    clock.advance(jump) if jump > 0 else clock.jump_wall(jump)

    assert scheduler.cancel(KEYS[:1]) == {KEYS[0]: None}
    assert commands.calls("scancel") == []


def test_a_dead_controller_is_waited_for_once_a_tick(
    commands: CommandStubs, scheduler: SlurmScheduler
) -> None:
    """A failed look is shared like any other; it is an answer for nobody."""
    commands.write("squeue", "exit 1")

    assert isinstance(scheduler.find(TOKEN), Unreachable)
    assert scheduler.observe(KEYS).unreachable
    assert scheduler.cancel(KEYS)[KEYS[0]] is not None
    assert len(commands.calls("squeue")) == 1


def test_thousands_of_ended_arrays_cost_one_sacct(
    commands: CommandStubs, scheduler: SlurmScheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An argument holds 128 KiB: ids go in several arguments of one call."""
    monkeypatch.setattr(slurm_queries, "IDS_IN_ARGUMENT", 4)
    commands.write("squeue", "true")
    commands.write("sacct", SACCT + f"row 9_0 COMPLETED 0:0 2026 {NAME}")
    keys = [TaskKey(token=TOKEN, scheduler_id=str(n), index=0) for n in range(1, 11)]

    answers = scheduler.observe(keys).answers

    (line,) = commands.calls("sacct")
    words = [word for word in line.split() if word.startswith("--jobs=")]
    assert words == ["--jobs=1,2,3,4", "--jobs=5,6,7,8", "--jobs=9,10"]
    assert answers[keys[8]] == Known(state=TaskState.COMPLETED, nodes="n1", exit_code=0)
    assert answers[keys[0]] == Absent()


def test_who_was_not_asked_about_is_not_absent(
    commands: CommandStubs, scheduler: SlurmScheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than one call can hold: the rest is asked at the next look."""
    monkeypatch.setattr("orchestrator.schedulers.slurm.IDS_AT_ONCE", 2)
    commands.write("squeue", "true")
    commands.write("sacct", "true")
    keys = [TaskKey(token=TOKEN, scheduler_id=str(n), index=0) for n in range(1, 4)]

    answers = scheduler.observe(keys).answers

    assert answers[keys[0]] == answers[keys[1]] == Absent()
    assert isinstance(answers[keys[2]], Unreachable)


@pytest.mark.parametrize(
    "set_by_the_user",
    [
        {"SQUEUE_FORMAT": "%i", "SQUEUE_STATES": "R", "SQUEUE_USERS": "x", "SQUEUE_ARRAY": "0"},
        {"SACCT_FORMAT": "jobid", "SACCT_FEDERATION": "1"},
        {"SLURM_TIME_FORMAT": "relative", "SLURM_BITSTR_LEN": "8", "SLURM_CLUSTERS": "other"},
        {"LC_ALL": "de_DE.UTF-8", "SLURM_JSON": "1", "SBATCH_HOLD": "1", "SCANCEL_STATE": "R"},
    ],
)
def test_nothing_the_user_set_changes_an_answer(set_by_the_user: Mapping[str, str]) -> None:
    """Format, filter, cluster, locale and time format are ours; which cluster is the user's."""
    environment = command_environment(
        {**set_by_the_user, "SLURM_CONF": "/etc/slurm.conf", "PATH": "/bin"}
    )

    assert environment == {
        "PATH": "/bin",
        "SLURM_CONF": "/etc/slurm.conf",
        "LC_ALL": "C",
        "SLURM_TIME_FORMAT": "standard",
        "SLURM_BITSTR_LEN": "0",
    }
