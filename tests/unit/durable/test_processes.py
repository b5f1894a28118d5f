"""A process is its identity; a stranger with the same pid is never taken for it or signalled."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from durable.processes import ProcessIdentity, members


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that leads its own session and group."""
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as process:
        yield process
        process.kill()


def identity_of(process: subprocess.Popen[bytes]) -> ProcessIdentity:
    """Return a child's identity."""
    identity = ProcessIdentity.of(process.pid)
    assert identity is not None
    return identity


def test_the_current_process_is_alive() -> None:
    """current() is this process, and it lives."""
    me = ProcessIdentity.current()
    assert me.pid == os.getpid()
    assert me == ProcessIdentity.of(os.getpid())
    assert me.alive()


def test_a_dead_process_is_not_alive_even_as_a_zombie(sleeper: subprocess.Popen[bytes]) -> None:
    """A zombie has ended; only its exit code is left."""
    identity = identity_of(sleeper)
    os.kill(sleeper.pid, signal.SIGKILL)
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)  # it is a zombie now
    assert not identity.alive()
    assert ProcessIdentity.of(sleeper.pid) is None
    assert not identity.signal(signal.SIGTERM)
    sleeper.wait()
    assert not identity.alive()
    assert not identity.signal(signal.SIGTERM)
    assert not identity.signal_group(signal.SIGTERM)


@pytest.mark.parametrize("change", [{"start": 1}, {"boot_id": "an earlier boot"}])
def test_a_reused_pid_is_a_stranger(
    sleeper: subprocess.Popen[bytes], change: dict[str, object]
) -> None:
    """Same pid, other start time or other boot: not ours, so it is never signalled."""
    ours = replace(identity_of(sleeper), **change)  # type: ignore[arg-type]
    assert not ours.alive()
    assert not ours.signal(signal.SIGKILL)
    assert not ours.signal_group(signal.SIGKILL)
    assert identity_of(sleeper).alive()


def test_a_command_name_cannot_forge_the_identity(tmp_path: Path) -> None:
    """/proc/PID/stat has the command in parentheses; it may contain `) Z 1`."""
    program = tmp_path / "a) Z 1 (b"
    shutil.copy("/bin/sleep", program)
    with subprocess.Popen([program, "60"], start_new_session=True) as process:
        identity = identity_of(process)
        assert identity.alive()
        assert identity.start > 1
        assert members(process.pid) == [identity]
        process.kill()


def test_signal_reaches_a_living_process(sleeper: subprocess.Popen[bytes]) -> None:
    """signal() says True and the process receives it."""
    assert identity_of(sleeper).signal(signal.SIGTERM)
    assert sleeper.wait(10) == -signal.SIGTERM


def test_a_stopped_process_is_alive_and_says_that_it_is_stopped(
    sleeper: subprocess.Popen[bytes],
) -> None:
    """SIGSTOP is neither death nor progress."""
    identity = identity_of(sleeper)
    assert not identity.stopped()
    identity.signal(signal.SIGSTOP)
    os.waitpid(sleeper.pid, os.WUNTRACED)
    assert identity.alive()
    assert identity.stopped()


def test_a_group_is_signalled_as_a_whole_through_its_leader() -> None:
    """Grandchildren receive the signal too; `members` sees them all."""
    command = ["sh", "-c", "sleep 60 & echo $!; wait"]
    with subprocess.Popen(command, start_new_session=True, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        grandchild = int(process.stdout.readline())
        identity = identity_of(process)
        assert {m.pid for m in members(process.pid)} == {process.pid, grandchild}
        assert identity.signal_group(signal.SIGKILL)
        assert process.stdout.read() == b""  # both ends of the pipe are gone
        assert process.wait(10) == -signal.SIGKILL


def test_who_leads_no_group_is_not_group_signalled() -> None:
    """killpg on a non-leader's pid would reach nobody or, worse, somebody else's group."""
    with subprocess.Popen(["sleep", "60"]) as process:
        assert not identity_of(process).signal_group(signal.SIGKILL)
        assert identity_of(process).alive()
        process.kill()
