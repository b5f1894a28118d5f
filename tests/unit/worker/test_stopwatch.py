"""Each lap goes to one part; standing still is none of them."""

from __future__ import annotations

from worker.stopwatch import Stopwatch


class Times:
    """A monotonic and a CPU clock that are moved by hand."""

    def __init__(self) -> None:
        self.now = self.used = 100.0
        self.watch = Stopwatch(monotonic=lambda: self.now, cpu=lambda: self.used)

    def work(self, seconds: float, *, cpu: float | None = None) -> None:
        """Let time pass, busy unless said otherwise."""
        self.now += seconds
        self.used += seconds if cpu is None else cpu


def test_laps_go_to_their_phase_and_add_up() -> None:
    """Nothing is counted twice or forgotten."""
    times = Times()
    times.work(8)
    times.watch.lap("starting", 0)
    for step in (1, 2, 3):
        times.work(2)
        times.watch.step_done(step)
    times.work(1)
    times.watch.lap("evaluating", 3)
    times.work(0.5)
    times.watch.lap("saving", 3)

    spent = times.watch.spent()

    assert (spent.starting, spent.training, spent.evaluating, spent.saving) == (8, 6, 1, 0.5)
    assert spent.replayed == spent.suspended == spent.replayed_steps == 0


def test_what_an_earlier_attempt_had_done_is_replayed() -> None:
    """Steps 5 and 6 again, then 7 for the first time; the evaluation between belongs to them."""
    times = Times()
    times.watch.replay_until(6)
    times.work(2)
    times.watch.step_done(5)
    times.work(1)
    times.watch.lap("evaluating", 5)
    times.work(2)
    times.watch.step_done(6)
    times.work(2)
    times.watch.step_done(7)

    spent = times.watch.spent()

    assert (spent.replayed, spent.replayed_steps, spent.training) == (5, 2, 2)
    assert spent.evaluating == 0


def test_a_gap_that_ended_with_sigcont_was_a_suspension() -> None:
    """Neither training nor waste: the site took the time."""
    times = Times()
    times.work(600, cpu=0.1)
    times.watch.on_continue()
    times.watch.step_done(1)

    assert times.watch.spent().suspended == 600


def test_a_notices_sigcont_while_working_is_no_suspension() -> None:
    """Preemption sends CONT before TERM."""
    times = Times()
    times.work(30)
    times.watch.on_continue()
    times.watch.step_done(1)
    times.work(1, cpu=0.0)
    times.watch.on_continue()
    times.watch.step_done(2)

    assert times.watch.spent().training == 31


def test_a_long_wait_without_sigcont_is_not_called_a_suspension() -> None:
    """A slow peer or a device at work leaves the CPU idle, too."""
    times = Times()
    times.work(60, cpu=0.0)
    times.watch.step_done(1)

    assert times.watch.spent().training == 60
