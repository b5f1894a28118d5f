"""The fake clock behaves like a clock, and like the disasters that befall clocks."""

from __future__ import annotations

import pytest

from durable.clock import Clock, FakeClock, SystemClock


def test_the_system_clock_grows_and_knows_its_boot() -> None:
    """Monotonic time never falls; the boot id is stable while the machine is up."""
    clock: Clock = SystemClock()
    first = clock.monotonic()
    clock.sleep(0)
    assert clock.monotonic() >= first
    assert clock.boot_id() == clock.boot_id() != ""
    assert clock.wall() > 1_600_000_000


def test_sleeping_on_a_fake_clock_moves_both_times() -> None:
    """A test never waits: sleep is a jump of both clocks."""
    clock: Clock = FakeClock(wall=100.0, monotonic=5.0)
    clock.sleep(2.5)
    assert (clock.wall(), clock.monotonic()) == (102.5, 7.5)


def test_a_wall_jump_leaves_monotonic_time_alone() -> None:
    """NTP may set the wall clock back a day; durations must not notice."""
    clock = FakeClock(wall=100_000.0, monotonic=5.0)
    clock.jump_wall(-86_400)
    assert (clock.wall(), clock.monotonic()) == (13_600.0, 5.0)


def test_a_reboot_changes_the_id_and_restarts_monotonic_time() -> None:
    """After a reboot monotonic values cannot be compared, and the boot id says so."""
    clock = FakeClock(monotonic=9_000.0)
    before = clock.boot_id()
    clock.reboot(down_seconds=30)
    assert clock.boot_id() != before
    assert clock.monotonic() < 9_000


def test_time_does_not_run_backwards() -> None:
    """A test that advances by a negative time has a mistake."""
    with pytest.raises(ValueError, match="backwards"):
        FakeClock().advance(-1)
