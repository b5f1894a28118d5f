"""--wait ends for the right reason, and whoever moves the jobs is kept alive."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from durable.locks import Locked
from jobs.states import JobState
from orchestrator.cli.mover import BackgroundMover, ForegroundMover
from orchestrator.cli.waiting import WaitEnd, wait_for
from orchestrator.rows import JobRow, TickReport, Watcher
from orchestrator.views.live import ChangeLog
from tests.unit.views.made_up import job

S = JobState
ALIVE, DEAD = Watcher(alive=True), Watcher(alive=False)


class NoMover:
    """Counts how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    def keep(self, watcher: Watcher) -> None:
        self.asked += 1

    def detach(self) -> str:
        return ""

    def close(self) -> None:
        return None


def wait(looks: Sequence[Sequence[JobRow]], *, timeout: float | None = None) -> WaitEnd:
    """Wait over prepared looks, half a second apart; the last one repeats."""
    clock, taken = [0.0], [0]

    def look() -> tuple[Sequence[JobRow], Watcher]:
        taken[0] += 1
        return looks[min(taken[0], len(looks)) - 1], ALIVE

    def sleep(seconds: float) -> None:
        clock[0] += seconds

    return wait_for(
        ids={job(1).id, job(2).id},
        look=look,
        mover=NoMover(),
        view=ChangeLog(lambda line: None),
        timeout=timeout,
        sleep=sleep,
        monotonic=lambda: clock[0],
    )


def test_all_completed_is_the_only_success() -> None:
    """Every job of the submission must have its result."""
    running = [job(1, S.COMPLETED), job(2, S.RUNNING)]

    assert wait([running, [job(1, S.COMPLETED), job(2, S.COMPLETED)]]) is WaitEnd.COMPLETED


@pytest.mark.parametrize("state", [S.FAILED, S.CANCELLED, S.HELD])
def test_a_job_that_will_not_complete_ends_the_waiting(state: JobState) -> None:
    """Failed, cancelled and held jobs do not come back by themselves: waiting on is useless."""
    assert wait([[job(1, S.COMPLETED), job(2, state)]]) is WaitEnd.UNFINISHED


def test_other_peoples_jobs_are_not_waited_for() -> None:
    """Only the jobs of this submission count."""
    rows = [job(1, S.COMPLETED), job(2, S.COMPLETED), job(3, S.RUNNING)]

    assert wait([rows]) is WaitEnd.COMPLETED


def test_the_timeout_lets_go() -> None:
    """After the given seconds the jobs are left to themselves."""
    assert wait([[job(1), job(2)]], timeout=3.0) is WaitEnd.TIMED_OUT


def test_a_zero_timeout_still_looks_once() -> None:
    """--timeout 0 asks: are they done?"""
    assert wait([[job(1), job(2)]], timeout=0.0) is WaitEnd.TIMED_OUT
    assert wait([[job(1, S.COMPLETED), job(2, S.COMPLETED)]], timeout=0.0) is WaitEnd.COMPLETED


def test_a_dead_background_watcher_is_started_again_but_not_in_a_hurry() -> None:
    """Only when none is alive, and at most once in ten seconds."""
    started: list[int] = []
    mover = BackgroundMover(lambda: started.append(1))

    mover.keep(ALIVE)
    assert started == []
    mover.keep(DEAD)
    mover.keep(DEAD)

    assert started == [1]


def test_letting_go_at_once_still_leaves_a_watcher() -> None:
    """Ctrl-C before the first look must not leave jobs that nobody moves."""
    started: list[int] = []

    sentence = BackgroundMover(lambda: started.append(1)).detach()

    assert started == [1]
    assert "background watcher" in sentence


class LoopService:
    """A service whose loop ends as the test wants."""

    def __init__(self, behaviour: Callable[[threading.Event], None]) -> None:
        self._behaviour = behaviour

    def watch(
        self, *, until_idle: bool, on_tick: Callable[[TickReport], None], stop: threading.Event
    ) -> None:
        self._behaviour(stop)


def ended(mover: ForegroundMover) -> None:
    """Wait for the thread of the mover."""
    assert mover._thread is not None
    mover._thread.join(10)
    assert not mover._thread.is_alive()


def test_the_loop_runs_here_only_when_nobody_holds_the_lease() -> None:
    """A living watcher is left alone; without one a thread ticks until it is let go."""
    began = threading.Event()

    def run_until_stopped(stop: threading.Event) -> None:
        began.set()
        assert stop.wait(10)

    mover = ForegroundMover(lambda: LoopService(run_until_stopped), on_tick=print)  # type: ignore[arg-type,return-value]
    mover.keep(ALIVE)
    assert not began.is_set()
    mover.keep(DEAD)
    assert began.wait(10)

    mover.close()

    ended(mover)


def test_losing_the_race_for_the_lease_is_no_failure() -> None:
    """Somebody else moves the jobs then: waiting goes on."""

    def locked(stop: threading.Event) -> None:
        raise Locked(Path("w.lock"), None)

    mover = ForegroundMover(lambda: LoopService(locked), on_tick=print)  # type: ignore[arg-type,return-value]
    mover.keep(DEAD)
    ended(mover)

    mover.keep(DEAD)


def test_what_ends_the_loop_reaches_the_user() -> None:
    """An error in the thread must not be swallowed while the view goes on for ever."""

    def broken(stop: threading.Event) -> None:
        raise OSError(28, "No space left on device")

    mover = ForegroundMover(lambda: LoopService(broken), on_tick=print)  # type: ignore[arg-type,return-value]
    mover.keep(DEAD)
    ended(mover)

    with pytest.raises(OSError, match="No space"):
        mover.keep(DEAD)
