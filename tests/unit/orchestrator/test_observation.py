"""The last look at a scheduler is published for those who do not look themselves."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.contract.paths import StateDir
from orchestrator.observation import publish_seen, read_seen
from orchestrator.schedulers.base import Observation
from tests.unit.orchestrator.world import SPECS, World


def test_a_tick_publishes_when_it_looked(tmp_path: Path) -> None:
    """Whoever ticks, everybody knows how old the store's word is."""
    world = World(tmp_path)
    world.submit(SPECS)
    world.tick()

    (seen,) = read_seen(world.service.state)

    assert (seen.scheduler, seen.taken_at, seen.unreachable) == ("fake", world.clock.wall(), None)
    assert seen.tasks == len(SPECS)


def test_a_failed_look_keeps_the_time_of_the_last_good_one(tmp_path: Path) -> None:
    """An age must never make ignorance look like knowledge."""
    world = World(tmp_path)
    world.submit(SPECS[:1])
    world.tick()
    looked_at = world.clock.wall()

    world.fake.unreachable = 1
    world.tick(100.0)

    (seen,) = read_seen(world.service.state)
    assert seen.taken_at == looked_at
    assert seen.unreachable is not None


def test_the_least_recently_seen_scheduler_comes_first(tmp_path: Path) -> None:
    """One number stands for all: the oldest; one that never answered is the oldest of all."""
    looks = {
        "a": Observation(taken_at=20.0, answers={}),
        "b": Observation(taken_at=10.0, answers={}),
        "c": Observation(taken_at=30.0, answers={}, unreachable="x"),
    }
    publish_seen(StateDir(tmp_path), looks)

    assert [(s.scheduler, s.taken_at) for s in read_seen(StateDir(tmp_path))] == [
        ("c", None),
        ("b", 10.0),
        ("a", 20.0),
    ]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schedulers": [1]}', '{"schedulers": {"a": 1}}'])
def test_an_odd_file_is_no_observation(tmp_path: Path, text: str) -> None:
    """It is only ever shown; nobody's status fails for it."""
    (tmp_path / "observation.json").write_text(text)

    assert read_seen(StateDir(tmp_path)) == []
