"""The local launcher: signals once per receipt, a bound on dead ranks, an honest exit code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from durable.processes import ProcessIdentity
from tests.e2e.harness import Bench, semantic, write_task
from worker.attempt import read_assignment
from worker.launch import Overdue, SignalQueue, exit_code, launch, run_ranks
from worker.layout import read_layout

AGAIN, CONFIGURATION, EXCEPTION, RESULT = 75, 78, 1, 0


@pytest.mark.parametrize(
    ("codes", "has_result", "expected"),
    [
        ([0, 0], True, RESULT),
        ([75, 75], True, RESULT),  # published, then preempted
        ([0, 0], False, EXCEPTION),  # nobody may say done without a result
        ([75, 75], False, AGAIN),
        ([75, 143], False, AGAIN),
        ([-15, 75], False, AGAIN),  # TERM before the handler stood
        ([75, -9], False, AGAIN),  # one killed, the other lost its peer
        ([-9, -9], False, EXCEPTION),
        ([-11, 75], False, EXCEPTION),
        ([75, 1], False, EXCEPTION),
        ([78, 1], False, CONFIGURATION),
        ([75, 78], False, CONFIGURATION),
    ],
)
def test_exit_codes(codes: list[int], has_result: bool, expected: int) -> None:
    """The launcher's word is made of its ranks' words."""
    assert exit_code(codes, has_result=has_result) == expected


def test_the_others_of_a_dead_rank_get_term_then_kill() -> None:
    """Each once, after their patience; a gap in which the launcher was stopped does not count."""
    overdue, now, due = Overdue(10), 0.0, []
    for _ in range(40):  # half a second per look
        due.append(overdue.due(now, some_ended=now >= 1))
        now += 0.5
    assert due.index(signal.SIGTERM) == 22  # at 11 s: ended at 1 s, patience 10 s
    assert due.index(signal.SIGKILL) == 32
    assert sum(1 for d in due if d) == 2

    stopped = Overdue(10)
    assert stopped.due(0, some_ended=True) is None
    assert stopped.due(1000, some_ended=True) is None  # the machine slept
    assert stopped.due(1001, some_ended=True) is None


class Dummy:
    """A rank that runs a small Python program."""

    def __init__(self, program: str, folder: Path, rank: str) -> None:
        env = dict(os.environ) | {"FOLDER": str(folder), "RANK": rank}
        self._process = subprocess.Popen([sys.executable, "-c", program], env=env)
        self.pid = self._process.pid

    def poll(self) -> int | None:
        return self._process.poll()

    def send_signal(self, number: int) -> None:
        self._process.send_signal(number)


COUNT_TERMS = """
import os, pathlib, signal, time
heard = []
signal.signal(signal.SIGTERM, lambda *_: heard.append(1))
signal.signal(signal.SIGUSR1, lambda *_: heard.append(2))
me = pathlib.Path(os.environ["FOLDER"], os.environ["RANK"])
me.write_text("ready")
while heard.count(2) == 0:
    time.sleep(0.01)
me.write_text(str(heard.count(1)))
raise SystemExit(75)
"""
STUBBORN = """
import os, pathlib, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pathlib.Path(os.environ["FOLDER"], os.environ["RANK"]).write_text("ready")
time.sleep(60)
"""


def wait_for(folder: Path, ranks: Sequence[str]) -> None:
    """Wait until the dummies have said that they are ready."""
    deadline = time.monotonic() + 20
    while not all((folder / rank).exists() and (folder / rank).read_text() for rank in ranks):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def own_signals() -> Any:
    """Put the handlers back that a SignalQueue replaces."""
    numbers = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCONT)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_each_receipt_reaches_each_rank_once(tmp_path: Path, own_signals: None) -> None:
    """Two TERMs to the launcher are two TERMs to every rank, and USR1 is passed on too."""
    signals = SignalQueue()
    ranks = [Dummy(COUNT_TERMS, tmp_path, rank) for rank in "01"]
    wait_for(tmp_path, "01")
    parent = os.getpid()
    later = "import os, signal, time, sys\n" + "".join(
        f"time.sleep(0.3); os.kill({parent}, signal.{name})\n"
        for name in ("SIGTERM", "SIGTERM", "SIGUSR1")
    )
    sender = subprocess.Popen([sys.executable, "-c", later])
    ends = run_ranks(ranks, signals, patience=20)
    sender.wait()

    assert (ends.codes, ends.killed) == ([75, 75], [])
    assert [(tmp_path / rank).read_text() for rank in "01"] == ["2", "2"]


def test_a_rank_that_ignores_term_is_killed_within_the_bound(
    tmp_path: Path, own_signals: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One rank died; the other neither leaves nor hears."""
    monkeypatch.setattr("worker.launch.TERM_TO_KILL_SECONDS", 0.2)
    signals = SignalQueue()
    ranks = [Dummy(STUBBORN, tmp_path, "0")]
    wait_for(tmp_path, "0")
    ranks.append(Dummy("raise SystemExit(1)", tmp_path, "1"))
    begun = time.monotonic()

    ends = run_ranks(ranks, signals, patience=0.2)

    assert (ends.codes, ends.killed) == ([-9, 1], [])  # by ourselves: no sign of used-up memory
    assert time.monotonic() - begun < 15


class Recorder:
    """A spawner of dummies that remembers how the ranks were to be started."""

    def __init__(self, folder: Path) -> None:
        self.started: list[tuple[list[str], dict[str, str]]] = []
        self._folder = folder

    def spawn(self, arguments: Sequence[str], env: Mapping[str, str]) -> Dummy:
        self.started.append((list(arguments), dict(env)))
        return Dummy("raise SystemExit(75)", self._folder, env["ORCH_RANK"])


def test_a_launch_is_on_record_from_its_start_to_its_end(tmp_path: Path, own_signals: None) -> None:
    """Identity and launch id at once, the exit code in the end; ranks share the launch id."""
    job = semantic(write_task(tmp_path / "task"), engine__ranks=2, engine__threads_per_rank=3)
    bench = Bench(tmp_path / "bench", None, job)
    assignment = read_assignment(bench.submission.path, read_layout({}, index=0))
    spawner = Recorder(tmp_path)
    code = launch(assignment, spawner)
    record = json.loads(bench.submission.launch(0).read_bytes())
    me = ProcessIdentity.current()

    assert code == record["exit_code"] == 75
    assert record["identity"] == {"boot_id": me.boot_id, "pid": me.pid, "start": me.start}
    assert record["ended_at"] >= record["started_at"]
    assert record["rank_exit_codes"] == [75, 75]
    for rank, (arguments, env) in enumerate(spawner.started):
        assert arguments == ["--submission", str(bench.submission.path), "--index", "0"]
        assert (env["ORCH_RANK"], env["ORCH_WORLD_SIZE"]) == (str(rank), "2")
        assert env["ORCH_LAUNCH_ID"] == record["launch_id"]
        assert env["OMP_NUM_THREADS"] == "3"


def test_the_launcher_imports_nothing_heavy() -> None:
    """It stands beside every attempt: torch there would cost memory and seconds."""
    program = "import sys, worker.launch; print('torch' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True
    )

    assert done.stdout.split() == ["False", "False"]
