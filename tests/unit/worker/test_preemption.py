"""A notice: from signals, from control.json, from the time limit; a flag and a deadline."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from durable.clock import FakeClock
from jobs.contract.records import ControlRecord, ExitRecord, Outcome, StopCause, read_record
from jobs.spec import Run
from tests.e2e.harness import Bench
from worker.preemption import Preemption, allocation_end

GRACE = 30.0


@pytest.fixture
def own_signals() -> Iterator[None]:
    """Put the handlers back that `install` replaces."""
    numbers = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def preemption(clock: FakeClock, *, control: Path | None = None, limit: float = 1e9) -> Preemption:
    """Return rank 0's ear in epoch 2."""
    return Preemption(
        epoch=2,
        grace_seconds=GRACE,
        limit_at=clock.wall() + limit,
        control=control,
        wall=clock.wall,
        monotonic=clock.monotonic,
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2])
def test_a_signal_sets_a_flag_and_the_first_deadline(own_signals: None, number: int) -> None:
    """Repeats change nothing: Slurm sends TERM again at the end of the grace time."""
    clock = FakeClock()
    ear = preemption(clock)
    ear.install()
    assert ear.notice() is None
    signal.raise_signal(number)
    first = clock.wall()
    clock.advance(5)
    signal.raise_signal(signal.SIGTERM)
    notice = ear.notice()

    assert (notice.cause, notice.deadline) == ("preemption", first + GRACE)
    assert ear.noticed_at == first
    signal.raise_signal(number)
    assert ear.notice() == notice


def test_a_signal_at_the_limit_is_the_time_limit() -> None:
    """Slurm says the same word for both; the clock tells them apart."""
    clock = FakeClock()
    ear = preemption(clock, limit=100)
    clock.advance(99)
    ear.flag()

    assert ear.notice().cause == "time_limit"


def test_it_stops_by_itself_before_the_limit() -> None:
    """With the grace time left, and not earlier."""
    clock = FakeClock()
    ear = preemption(clock, limit=100)
    clock.advance(69)
    assert ear.notice() is None
    clock.advance(2)

    assert ear.notice().cause == "time_limit"


def test_the_orchestrators_word_names_the_cause(tmp_path: Path) -> None:
    """It counts alone, and it explains a signal; it is polled, not read at every call."""
    clock, control = FakeClock(), tmp_path / "control.json"
    ear = preemption(clock, control=control)
    assert ear.notice() is None
    word = ControlRecord(epoch=2, request="stop", cause=StopCause.REHEARSAL, deadline_seconds=7)
    control.write_bytes(word.to_json())
    assert ear.notice() is None  # looked a moment ago
    clock.advance(1)

    assert (ear.notice().cause, ear.notice().deadline) == ("rehearsal", clock.wall() + 7)

    signalled = preemption(clock, control=control)
    signalled.flag()
    assert signalled.notice().cause == "rehearsal"


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"epoch":2,"request":"stop","cause":"x"}'])
def test_a_word_that_cannot_be_read_is_no_word(tmp_path: Path, content: bytes) -> None:
    """A torn or foreign file must not stop a training."""
    control = tmp_path / "control.json"
    control.write_bytes(content)

    assert preemption(FakeClock(), control=control).notice() is None


def test_a_word_to_an_earlier_attempt_is_not_for_us(tmp_path: Path) -> None:
    """control.json of the attempt before still lies there."""
    control = tmp_path / "control.json"
    word = ControlRecord(epoch=1, request="stop", cause=StopCause.PREEMPTION)
    control.write_bytes(word.to_json())

    assert preemption(FakeClock(), control=control).notice() is None


def test_the_end_of_the_allocation() -> None:
    """Slurm's own word where it has one; else this process's start plus the limit, less slack."""
    run = Run.model_validate({"resources": {"time_limit_minutes": 2}})
    slurm = {"SLURM_PROCID": "0", "SLURM_JOB_END_TIME": "5000"}

    assert allocation_end(run, slurm, started_at=1000) == 5000
    assert allocation_end(run, {"SLURM_PROCID": "0"}, started_at=1000) == 1110
    assert allocation_end(run, {"SLURM_JOB_END_TIME": "5000"}, started_at=1000) == 1110


def start_worker(bench: Bench, fault: str) -> subprocess.Popen[bytes]:
    """Start a cold rank in the bench."""
    env = dict(os.environ) | {"ORCH_FAULT": fault, "ORCH_RANK": "0", "ORCH_WORLD_SIZE": "1"}
    command = [sys.executable, "-P", "-m", "worker", "--submission", str(bench.submission.path)]
    return subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("sends", [signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2])
def test_a_signal_during_the_imports_leaves_with_75_and_a_record(
    tmp_path: Path, sends: signal.Signals
) -> None:
    """A real process, in the middle of importing torch: no 143, no lost job."""
    bench = Bench(tmp_path)
    process = start_worker(bench, "")
    try:
        log = bench.job.attempt(1).log(0)
        deadline = time.monotonic() + 30
        while not (log.exists() and log.stat().st_size):  # claimed; the imports come next
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(0.2)
        begun = time.monotonic()
        process.send_signal(sends)
        process.send_signal(signal.SIGTERM)
        code = process.wait(20)
    finally:
        process.kill()
        process.wait()
    record = read_record(bench.job.attempt(1).exit_record(0), ExitRecord)

    assert code == 75
    assert time.monotonic() - begun < 5
    assert (record.outcome, record.cause, record.exit_code) == (
        Outcome.NO_PROGRESS,
        StopCause.PREEMPTION,
        75,
    )
    assert record.seconds_from_notice is not None


def test_a_signal_before_the_claim_leaves_with_75_and_no_epoch(tmp_path: Path) -> None:
    """Nothing began, so there is nothing to record."""
    bench = Bench(tmp_path)
    process = start_worker(bench, "claim.before_publish:stop")
    try:
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGCONT)
        code = process.wait(20)
    finally:
        process.kill()
        process.wait()

    assert code == 75
    assert list(bench.job.epochs.iterdir()) == []


def test_a_learned_grace_is_of_preemptions_only(own_signals: None) -> None:
    """The deadline of a preemption is the learned one; the lead of the time limit stays."""
    clock, heard = FakeClock(), []
    ear = Preemption(
        epoch=2,
        grace_seconds=GRACE,
        learned_grace=8.0,
        limit_at=clock.wall() + 1000.0,
        on_notice=lambda notice, at: heard.append((notice, at)),
        wall=clock.wall,
        monotonic=clock.monotonic,
    )
    ear.flag()
    notice = ear.notice()
    assert (notice.cause, notice.deadline) == ("preemption", clock.wall() + 8.0)
    assert ear.notice() is notice
    assert heard == [(notice, clock.wall())]

    late = Preemption(
        epoch=2,
        grace_seconds=GRACE,
        learned_grace=8.0,
        limit_at=clock.wall() + GRACE,
        wall=clock.wall,
        monotonic=clock.monotonic,
    )
    assert late.notice().cause == "time_limit"
