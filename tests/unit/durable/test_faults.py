"""ORCH_FAULT does what its grammar says, and nothing at all when it is not set."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from durable import faults

Plan = Callable[..., None]


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch) -> Iterator[Plan]:
    """Set ORCH_FAULT and the like for this process."""

    def set_plan(text: str, **environment: str) -> None:
        monkeypatch.setenv("ORCH_FAULT", text)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        faults.reset()

    for name in ("ORCH_FAULT", "ORCH_FAULT_LOG", "ORCH_RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    yield set_plan
    monkeypatch.undo()
    faults.reset()


def fires(name: str, times: int) -> list[int]:
    """Return which of `times` hits raised, counted from 1."""
    fired = []
    for count in range(1, times + 1):
        try:
            faults.hit(name)
        except OSError:
            fired.append(count)
    return fired


def test_without_a_plan_the_environment_is_read_once(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without ORCH_FAULT a hit costs one comparison: after the first, nothing is looked up."""
    plan("")
    faults.hit("a.b")
    monkeypatch.setattr(faults, "_hit", lambda name: pytest.fail("took the slow path"))
    faults.hit("a.b")


@pytest.mark.parametrize(
    ("text", "fired"),
    [
        ("a.b:errno=ENOSPC", [1]),
        ("a.b:errno=ENOSPC@3", [3]),
        ("a.b:errno=ENOSPC@3+", [3, 4, 5]),
        ("a.b:errno=EIO@2, a.b:errno=EIO@4", [2, 4]),
        ("a.bc:errno=EIO", []),
        ("a:errno=EIO", []),
    ],
)
def test_the_nth_hit_fires(plan: Plan, text: str, fired: list[int]) -> None:
    """A fault fires at its n-th hit, with `+` also later, and only under its own name."""
    plan(text)
    assert fires("a.b", 5) == fired


@pytest.mark.parametrize(
    ("variable", "value", "fired"),
    [
        ("ORCH_RANK", "1", [1]),
        ("SLURM_PROCID", "1", [1]),
        ("ORCH_RANK", "0", []),
        ("ORCH_RANK", "11", []),
        ("ORCH_RANK", "", []),
    ],
)
def test_a_rank_can_be_chosen(plan: Plan, variable: str, value: str, fired: list[int]) -> None:
    """`name[rank=1]` fires in rank 1 only, local or under Slurm; elsewhere nowhere."""
    plan("a.b[rank=1]:errno=EIO", **{variable: value})
    assert fires("a.b", 2) == fired


def test_the_error_is_the_named_one(plan: Plan) -> None:
    """errno=NAME raises that OSError and says which fault point it was."""
    plan("a.b:errno=ENOSPC")
    with pytest.raises(OSError, match=r"fault point a\.b") as caught:
        faults.hit("a.b")
    assert caught.value.errno == errno.ENOSPC


@pytest.mark.parametrize(
    ("name", "kind"), [("MemoryError", MemoryError), ("OutOfMemoryError", RuntimeError)]
)
def test_the_exception_has_the_given_name(plan: Plan, name: str, kind: type[Exception]) -> None:
    """raise=NAME raises Python's own, or one of that name where Python has none."""
    plan(f"a.b:raise={name}")
    with pytest.raises(kind, match=r"fault point a\.b") as caught:
        faults.hit("a.b")
    assert type(caught.value).__name__ == name


def test_sleep_waits_the_given_seconds(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """sleep=S waits S seconds."""
    slept: list[float] = []
    monkeypatch.setattr(faults.time, "sleep", slept.append)
    plan("a.b:sleep=1.5")
    faults.hit("a.b")
    assert slept == [1.5]


def test_reset_starts_counting_anew(plan: Plan) -> None:
    """A forked rank that resets has its own counts."""
    plan("a.b:errno=EIO@2")
    assert fires("a.b", 1) == []
    faults.reset()
    assert fires("a.b", 2) == [2]


def test_every_hit_is_logged(plan: Plan, tmp_path: Path) -> None:
    """ORCH_FAULT_LOG receives each hit, with or without ORCH_FAULT, before the action."""
    log = tmp_path / "hits"
    plan("b:errno=EIO", ORCH_FAULT_LOG=str(log))
    faults.hit("a")
    assert fires("b", 1) == [1]
    plan("", ORCH_FAULT_LOG=str(log))
    faults.hit("c")
    assert log.read_text() == "a\nb\nc\n"


@pytest.mark.parametrize(
    "text",
    [
        "a.b",
        "a.b:explode",
        "a.b:errno=ENOSUCHTHING",
        "a.b:errno",
        "a.b:raise",
        "a.b:raise=a.b",
        "a.b:sleep=long",
        "a.b:kill=3",
        "a.b:kill@0",
        "a.b[rank=x]:kill",
        "a.b:kill; rm",
    ],
)
def test_a_wrong_plan_is_refused_by_name(plan: Plan, text: str) -> None:
    """A plan that would silently inject nothing would make a test pass for nothing."""
    plan(text)
    with pytest.raises(faults.FaultInvalid, match="ORCH_FAULT") as caught:
        faults.hit("unrelated")
    assert "ACTION" in str(caught.value)


def child(plan: str) -> subprocess.Popen[bytes]:
    """Start a process that hits `a` three times and says so."""
    code = "from durable import faults\nfor n in '123':\n    faults.hit('a'); print(n, flush=True)"
    environment = {**os.environ, "ORCH_FAULT": plan}
    return subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE)


def test_kill_is_sigkill() -> None:
    """kill ends the process as SIGKILL does: no handler, no finally."""
    with child("a:kill@2") as process:
        output, _ = process.communicate(timeout=30)
    assert process.returncode == -signal.SIGKILL
    assert output == b"1\n"


def test_stop_is_sigstop_and_can_be_continued() -> None:
    """stop freezes the process at the point; SIGCONT lets it go on where it was."""
    with child("a:stop@2") as process:
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        os.kill(process.pid, signal.SIGCONT)
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert output == b"1\n2\n3\n"
