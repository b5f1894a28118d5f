"""The lease and the inbox: one writer, and wishes that are carried out exactly once."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from durable.locks import Locked
from jobs.states import JobState
from orchestrator import requests
from orchestrator.lease import Lease
from orchestrator.rows import TickReport
from orchestrator.schedulers.fake import FakeScheduler
from orchestrator.service import NoScheduler, Service
from tests.contract.stub import make_matrix
from tests.unit.orchestrator.world import SPECS, World


def test_a_second_service_is_refused_and_told_who_holds_the_lease(world: World) -> None:
    """One writer; reading goes on."""
    lease = Lease(world.service.state, world.service.store.database, world.clock, verb="watch")
    lease.acquire()
    other = Service.open(world.home, scheduler=world.fake, clock=world.clock)
    try:
        with pytest.raises(Locked) as refused:
            other.tick()
        assert refused.value.holder is not None
        assert refused.value.holder["verb"] == "watch"
        assert other.watcher().alive
        assert other.rows(None) == []
    finally:
        lease.release()
    assert not other.watcher().alive


def test_a_wish_is_carried_out_by_whoever_holds_the_lease(world: World) -> None:
    """Submitting beside a watcher just works: its next tick takes the jobs in."""
    holder = World(world.home)
    stop = threading.Event()
    seen: list[TickReport] = []
    thread = threading.Thread(target=_watch, args=(world.home, holder.fake, stop, seen))
    thread.start()
    try:
        while not seen:
            pass
        other = Service.open(world.home, scheduler=FakeScheduler())
        report = other.submit([make_matrix(SPECS)])
        assert (report.plan.new, report.submitted + report.waiting) == (3, 3)
        taken_in = len(seen)  # the tick that took them in may not have handed them over yet
        while len(seen) <= taken_in:
            pass
        assert len(holder.fake.tasks()) == 3
    finally:
        stop.set()
        thread.join(timeout=10)


def _watch(home: Path, fake: FakeScheduler, stop: threading.Event, seen: list[TickReport]) -> None:
    service = Service.open(home, scheduler=fake, tick_seconds=0.02)
    service.watch(until_idle=False, on_tick=seen.append, stop=stop)
    service.close()


def test_a_request_is_carried_out_once_even_if_its_file_stays(world: World) -> None:
    """A crash before the removal must not cancel a job a second time."""
    world.submit()
    wish = requests.CancelWish(jobs=(SPECS[0].id,))
    name = requests.post(world.service.state, wish)
    data = (requests.inbox(world.service.state) / name).read_bytes()
    world.tick()
    world.tick()
    world.submit()
    assert world.state(SPECS[0]) is JobState.QUEUED

    (requests.inbox(world.service.state) / name).write_bytes(data)
    world.tick()

    assert world.state(SPECS[0]) is JobState.QUEUED
    assert requests.pending(world.service.state) == []


@pytest.mark.parametrize("data", [b"", b"{}", b'{"kind":"submit","matrix":"../../x"}', b"\xff"])
def test_a_file_that_is_no_request_is_set_aside(world: World, data: bytes) -> None:
    """It neither stops the loop nor disappears."""
    inbox = requests.inbox(world.service.state)
    inbox.mkdir()
    (inbox / "1.json").write_bytes(data)

    report = world.tick()

    assert any("set aside" in line for line in report.happenings)
    assert (inbox / "1.json.rejected").exists()


def test_reading_needs_no_scheduler_and_writing_does(tmp_path: Path) -> None:
    """The state directory is created private."""
    service = Service.open(tmp_path / "a" / ".orch")

    assert service.rows(None) == []
    assert not service.watcher().alive
    assert (tmp_path / "a" / ".orch").stat().st_mode & 0o777 == 0o700
    with pytest.raises(NoScheduler):
        service.tick()


def test_tasks_of_another_scheduler_are_left_alone_and_named(world: World) -> None:
    """A tick that has no access to Slurm says so and changes nothing."""
    world.submit()
    other = FakeScheduler(clock=world.clock)
    other.name = "local"
    service = Service.open(world.home, scheduler=other, clock=world.clock)

    report = service.tick()

    assert "no access to fake" in report.warnings[0]
    assert {row.state for row in service.rows(None)} == {JobState.QUEUED}


def test_the_service_is_light() -> None:
    """Importing it loads nothing of torch, transformers, submitit or rich."""
    script = (
        "import sys, orchestrator.service, orchestrator.schedulers.choice;"
        "print([m for m in ('torch','transformers','submitit','rich','datasets','yaml')"
        " if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
