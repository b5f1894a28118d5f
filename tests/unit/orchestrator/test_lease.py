"""One writer: by flock on one kernel, by heartbeat and epoch across hosts."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest

from durable.clock import FakeClock, read_boot_id
from durable.locks import Locked
from jobs.contract.paths import StateDir
from orchestrator.continuity import Stamp
from orchestrator.database import Database, LeaseLost
from orchestrator.lease import Lease, read_watcher
from orchestrator.pulse import TAKEOVER_SECONDS, heartbeat_file, read_beat
from tests.unit.orchestrator.world import World


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    """An empty state directory."""
    return StateDir(tmp_path)


def lease(state: StateDir, verb: str = "watch") -> Lease:
    """Return a lease of one process with a connection of its own."""
    return Lease(state, Database(state.database), FakeClock(), verb=verb)


def beat_from(state: StateDir, *, age: float = 0.0, **changes: object) -> None:
    """Leave a heartbeat as another host does whose locks do not reach us."""
    values = {
        "verb": "watch", "host": "login2", "pid": 77, "boot_id": "other", "holding": True,
        "lease": 1, "last_tick": 1.0, "beat_at": FakeClock().wall(), **changes,
    }  # fmt: skip
    file = heartbeat_file(state)
    file.write_text(json.dumps(values))
    now = file.stat().st_mtime
    os.utime(file, (now - age, now - age))


@pytest.mark.parametrize("age", [0.0, TAKEOVER_SECONDS - 30, -30.0])
def test_a_fresh_holder_on_another_host_is_respected_although_flock_is_free(
    state: StateDir, age: float
) -> None:
    """The second names the holder and its host, and gives the flock back."""
    beat_from(state, age=age)

    with pytest.raises(Locked, match="pid 77 on login2"):
        lease(state).acquire()

    beat_from(state, holding=False)
    lease(state).acquire()


@pytest.mark.parametrize(
    "free",
    [
        {"age": TAKEOVER_SECONDS + 30},  # silent for too long
        {"holding": False},  # it said goodbye
        {"host": socket.gethostname()},  # this host before its restart
        {"boot_id": read_boot_id()},  # this kernel: flock knows
    ],
)
def test_whoever_surely_holds_nothing_is_taken_over(
    state: StateDir, free: dict[str, object]
) -> None:
    """A stale holder needs no rm and no waiting beyond the takeover time."""
    beat_from(state, **free)

    taken = lease(state)
    taken.acquire()

    beat = read_beat(state)
    assert beat is not None
    assert (beat.host, beat.pid, beat.holding) == (socket.gethostname(), os.getpid(), True)


def test_where_flock_reaches_all_hosts_it_alone_decides(
    state: StateDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that died gave its flock back: nobody need wait for its heartbeat to grow old."""
    beat_from(state)
    mounted = "22 1 0:1 / / rw - nfs4 server:/ rw,local_lock=none\n"
    monkeypatch.setattr("orchestrator.lease.read_mountinfo", lambda: mounted)

    lease(state).acquire()


def test_a_holder_that_was_taken_over_can_write_nothing_more(state: StateDir) -> None:
    """Neither to the database nor to the heartbeat of the one who took over."""
    old, new = lease(state), lease(state)
    old.acquire()
    old._lock.release()  # as on another host, where our flock is not seen
    new.acquire()
    before = heartbeat_file(state).read_bytes()

    with pytest.raises(LeaseLost), old._database.writing(old.epoch):
        pass
    with pytest.raises(LeaseLost):
        old.beat(Stamp.of(FakeClock()))
    old.release()

    assert heartbeat_file(state).read_bytes() == before


def test_a_lease_given_back_is_no_longer_said_to_be_held(state: StateDir) -> None:
    """Another host must not wait for the takeover time after a clean end."""
    held = lease(state)
    held.acquire()
    held.beat(Stamp.of(FakeClock()))
    assert read_watcher(state, FakeClock()).alive
    held.release()

    beat = read_beat(state)
    assert beat is not None
    assert not beat.holding
    assert beat.last_tick == FakeClock().wall()
    assert not read_watcher(state, FakeClock()).alive


def test_a_reader_believes_a_heartbeat_from_elsewhere_only_while_it_is_held(
    state: StateDir,
) -> None:
    """`orch status` names the watcher of another host, and not one that has left."""
    beat_from(state)
    assert read_watcher(state, FakeClock()).host == "login2"
    assert read_watcher(state, FakeClock()).alive

    beat_from(state, holding=False)
    assert not read_watcher(state, FakeClock()).alive


def test_paused_between_intent_and_sbatch_it_submits_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one who took over looks for the token; a submission now would be a second copy."""

    def paused(point: str) -> None:
        if point == "handover.intent_committed":
            world.service._database.take_lease()

    monkeypatch.setattr("orchestrator.submission.hit", paused)

    with pytest.raises(LeaseLost):
        world.submit()

    assert [what for what, _ in world.fake.log if what == "submit"] == []
    assert world.task_keys() == []
