"""A forked rank is what a cold one would be, and is always accounted for."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from durable.processes import ProcessIdentity
from tests.e2e.snapshot.conftest import ROOT
from tests.e2e.snapshot.runs import run_plan
from tests.e2e.snapshot.training import Cell, Plan
from worker.forkserver import Child, ForkServer, ForkServerDied, SpawnRefused

pytestmark = pytest.mark.e2e

PROBES = "tests.e2e.snapshot.probes"
SECONDS = 60.0


def _call(server: ForkServer, probe: str, argv: list[str], tmp_path: Path, **env: str) -> Child:
    plain = {"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1"}
    return server.call(f"{PROBES}:{probe}", argv, plain | env, tmp_path / "output")


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _facts(server: ForkServer, tmp_path: Path) -> dict[str, Any]:
    target = tmp_path / "facts.json"
    assert _call(server, "report", [str(target)], tmp_path, MINE="yes").wait(SECONDS) == 0
    facts: dict[str, Any] = json.loads(target.read_text())
    return facts


def test_a_child_has_the_requests_environment_and_nothing_of_the_servers(
    server: ForkServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Arguments, environment, directory, output, session, signals and open files are its own."""
    monkeypatch.chdir(tmp_path)
    waiting = _call(server, "loop", [str(tmp_path / "other")], tmp_path)
    _until((tmp_path / "other").exists)
    facts = _facts(server, tmp_path)
    (tmp_path / "other").unlink()

    assert waiting.wait(SECONDS) == 7
    assert facts["argv"] == [str(tmp_path / "facts.json")]
    assert facts["sys_argv"] == ["worker", *facts["argv"]]
    assert set(facts["env"]) == {"PATH", "OMP_NUM_THREADS", "MINE"}
    assert facts["cwd"] == str(tmp_path)
    assert facts["leads_session"]
    assert (facts["blocked"], facts["handled"]) == ([], [])
    assert facts["sigint"]
    assert facts["sigpipe"]
    assert facts["threads"] == 1
    assert facts["warm"]
    assert facts["stdin"] == ""
    output = str(tmp_path / "output")
    assert [name for name in facts["open_files"] if name not in ("/dev/null", output)] == []
    assert "on standard output" in (tmp_path / "output").read_text()
    assert "on standard error" in (tmp_path / "output").read_text()


@pytest.mark.parametrize(
    ("how", "code", "text"),
    [
        (["return", "0"], 0, ""),
        (["return", "75"], 75, ""),
        (["none"], 0, ""),
        (["exit", "78"], 78, ""),
        (["exit_text"], 1, "goodbye"),
        (["raise"], 1, "ValueError: as it happens"),
        (["interrupt"], 130, ""),
        (["kill", "9"], -9, ""),
        (["kill", "15"], -15, ""),
    ],
)
def test_every_way_to_leave_is_reported(
    server: ForkServer, tmp_path: Path, how: list[str], code: int, text: str
) -> None:
    """Exit codes are those of subprocess: the interpreter's own, and negative for a signal."""
    assert _call(server, "leave", how, tmp_path).wait(SECONDS) == code
    assert text in (tmp_path / "output").read_text()


def test_signals_reach_the_child_and_waiting_is_bounded(server: ForkServer, tmp_path: Path) -> None:
    """A handler that the child installs runs; poll says None meanwhile; wait gives up in time."""
    child = _call(server, "loop", [str(tmp_path / "flag")], tmp_path)
    _until((tmp_path / "flag").exists)
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(0.05)
    assert child.poll() is None
    child.send_signal(signal.SIGTERM)

    assert child.wait(SECONDS) == 75
    assert child.poll() == 75
    child.send_signal(signal.SIGKILL)  # gone: nothing happens


def test_only_listed_functions_run(server: ForkServer, tmp_path: Path) -> None:
    """The socket is not a way to run code; what imports have read cannot be changed silently."""
    with pytest.raises(SpawnRefused, match="not allowed"):
        server.call("os:system", ["true"], {}, tmp_path / "output")
    with pytest.raises(SpawnRefused, match="ForkServer\\.start"):
        _call(server, "leave", ["none"], tmp_path, HF_HOME="/elsewhere")
    with pytest.raises(SpawnRefused, match="at most"):
        _call(server, "leave", ["x" * 500_000], tmp_path)
    with pytest.raises(SpawnRefused, match="not a rank's command line"):
        server.spawn([sys.executable, "-m", "http.server"], {}, tmp_path / "output")
    assert not (tmp_path / "output").exists()


def test_the_socket_is_private(server: ForkServer) -> None:
    """Nobody else may connect."""
    assert stat.S_IMODE(server.socket.stat().st_mode) == 0o600
    assert stat.S_IMODE(server.socket.parent.stat().st_mode) == 0o700


def test_another_client_may_attach(server: ForkServer, tmp_path: Path) -> None:
    """The launcher uses the tests' server by its socket; its `close` ends nothing."""
    with ForkServer.attach(server.socket) as borrowed:
        assert _call(borrowed, "leave", ["return", "3"], tmp_path).wait(SECONDS) == 3

    assert _call(server, "leave", ["return", "4"], tmp_path).wait(SECONDS) == 4


def test_unseeded_generators_differ_between_children(server: ForkServer, tmp_path: Path) -> None:
    """As in cold processes: nobody inherits the server's random numbers."""
    drawn = []
    for _ in range(2):
        target = tmp_path / "generators.json"
        assert _call(server, "generators", [str(target)], tmp_path).wait(SECONDS) == 0
        drawn.append(json.loads(target.read_text()))
    first, second = drawn

    assert first["threads"] == second["threads"] == 1
    for name in ("torch", "seed", "python", "numpy"):
        assert first[name] != second[name]


@pytest.mark.parametrize("tied", [True, False])
def test_a_tied_child_ends_with_its_client(server: ForkServer, tmp_path: Path, tied: bool) -> None:
    """A launcher that is killed takes its tied ranks along; others live on and are reaped."""
    flag, code = (
        tmp_path / "flag",
        f"""
import os, sys, time
from pathlib import Path
from worker.forkserver import ForkServer
server = ForkServer.attach(Path({str(server.socket)!r}), tied={tied})
argv, output = [{str(tmp_path / "flag")!r}], Path({str(tmp_path / "output")!r})
child = server.call("{PROBES}:loop", argv, {{}}, output)
print(child.pid, flush=True)
time.sleep(60)
""",
    )
    client = subprocess.Popen(
        [sys.executable, "-P", "-c", code], env=_cold_environment(), stdout=subprocess.PIPE
    )
    assert client.stdout is not None
    identity = ProcessIdentity.of(int(client.stdout.readline()))
    assert identity is not None
    _until(flag.exists)
    client.kill()
    client.wait()
    if not tied:
        time.sleep(0.2)
        assert identity.alive()
        flag.unlink()
    _until(lambda: not identity.alive())


def test_warm_equals_cold_and_is_faster(
    server: ForkServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same training has the same digests, warm or cold; the times are printed.

    And a cold rank has no extension compiled: its node may have no compiler.
    """
    cell = Cell(zero_stage=2, precision="bf16", accumulation=2)
    started = time.perf_counter()
    warm = run_plan(server, Plan(cell=cell, directory=str(tmp_path / "warm"), until=6))
    middle = time.perf_counter()
    plan = Plan(cell=cell, directory=str(tmp_path / "cold"), until=6)
    (tmp_path / "cold").mkdir()
    (tmp_path / "cold/plan.json").write_text(plan.to_json())
    module = "tests.e2e.snapshot.training"
    command = [sys.executable, "-P", "-m", module, str(tmp_path / "cold/plan.json"), "0"]
    env = _cold_environment() | {"TORCH_EXTENSIONS_DIR": str(tmp_path / "extensions")}
    subprocess.run(command, check=True, cwd=ROOT, env=env, capture_output=True)
    ended = time.perf_counter()
    cold = json.loads((tmp_path / "cold/report.0.json").read_text())

    assert warm == [cold]
    assert not (tmp_path / "extensions").exists()
    assert middle - started < ended - middle
    with capsys.disabled():
        print(f"\nsix steps: warm {middle - started:.2f} s, cold {ended - middle:.2f} s")


def test_children_outlive_their_server_and_are_accounted_for(tmp_path: Path) -> None:
    """A killed server ends nobody; exit codes still arrive; `close` leaves no process behind."""
    server = ForkServer.start(
        env={"PYTHONPATH": str(ROOT)}, also=[f"{PROBES}:loop", f"{PROBES}:leave"]
    )
    try:
        flags = [tmp_path / f"flag{index}" for index in range(3)]
        leaving, killed, left = (_call(server, "loop", [str(flag)], tmp_path) for flag in flags)
        _until(lambda: all(flag.exists() for flag in flags))
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        flags[0].unlink()
        killed.send_signal(signal.SIGKILL)

        assert leaving.wait(SECONDS) == 7
        assert killed.wait(SECONDS) == -signal.SIGKILL
        assert left.poll() is None
        with pytest.raises(ForkServerDied):
            _call(server, "leave", ["none"], tmp_path)
    finally:
        server.close()
    _until(lambda: not left.identity.alive())
    assert not server.socket.parent.exists()


def test_the_server_ends_with_its_owner(tmp_path: Path) -> None:
    """When the owner is gone (its end of the pipe closed), the server ends its children too."""
    server = ForkServer.start(env={"PYTHONPATH": str(ROOT)}, also=[f"{PROBES}:loop"])
    child = _call(server, "loop", [str(tmp_path / "flag")], tmp_path)
    _until((tmp_path / "flag").exists)
    assert server.pid is not None
    identity = ProcessIdentity.of(server.pid)
    assert identity is not None
    assert server._process is not None
    assert server._process.stdin is not None
    server._process.stdin.close()  # as the kernel does when the owner is killed
    _until(lambda: not identity.alive())
    server._process.wait(SECONDS)
    assert not server.socket.parent.exists()
    server.close()
    _until(lambda: not child.identity.alive())
    assert child.wait(SECONDS) == -signal.SIGKILL


def _cold_environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return kept | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "DS_ACCELERATOR": "cpu"}
