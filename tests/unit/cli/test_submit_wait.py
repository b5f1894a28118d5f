"""`orch submit` for real: tiny trainings on the local backend, through the command line alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.cli.test_verbs import MATRIX

pytestmark = pytest.mark.e2e

Done = subprocess.CompletedProcess[str]


class Shell:
    """Runs `orch` as a user does, in a directory of its own."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.environment = {**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
        self.environment.pop("ORCH_HOME", None)

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Begin a command."""
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "orchestrator", *words],
            cwd=self.place,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # A shell's background jobs ignore SIGINT, and so would everything that they start.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
        )

    def orch(self, *words: str) -> Done:
        """Run a command to its end."""
        child = self.start(*words)
        out, err = child.communicate(timeout=240)
        return Done(words, child.returncode, out, err)

    def document(self, *words: str) -> Any:
        """Return the JSON of a command."""
        return json.loads(self.orch(*words, "--json").stdout)


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """A directory with a matrix of two trainings of four steps; nothing is left running."""
    (tmp_path / "m.yaml").write_text(MATRIX)
    shell = Shell(tmp_path)
    yield shell
    shell.orch("cancel", "tiny", "--yes")
    watcher = shell.document("status")["watcher"]
    if watcher["alive"]:
        os.kill(watcher["pid"], signal.SIGTERM)


SUBMIT = ("submit", "m.yaml", "--backend", "local", "--slots", "2")


def test_waiting_ends_with_results_and_nothing_runs_twice(shell: Shell) -> None:
    """Let go by time-out, come back, see the results, submit again: each job ran once."""
    let_go = shell.orch(*SUBMIT, "--wait", "--timeout", "1", "--json")
    assert let_go.returncode == 124, let_go.stderr
    assert json.loads(let_go.stdout)["outcome"] == "timed_out"
    assert "jobs go on" in let_go.stderr

    waited = shell.orch(*SUBMIT, "--wait")
    assert waited.returncode == 0, waited.stderr
    assert "2 jobs: 0 new, 2 unchanged" in waited.stdout
    assert "test loss" in waited.stdout
    assert "COMPLETED" in waited.stderr
    assert "\x1b" not in waited.stdout + waited.stderr

    again = shell.orch(*SUBMIT, "--wait", "--json")
    assert again.returncode == 0
    assert "2 jobs: 0 new, 2 unchanged (2 completed)" in again.stderr
    results = json.loads(again.stdout)["results"]
    assert [(job["attempts"], job["exact"]) for job in results] == [(1, True), (1, True)]
    assert shell.orch("logs", results[0]["id"]).stdout


def test_ctrl_c_detaches_and_the_jobs_complete(shell: Shell) -> None:
    """130 and a sentence; the background watcher brings the jobs to their results."""
    child = shell.start(*SUBMIT, "--wait")
    assert child.stderr is not None
    line = ""
    while "handed to" not in line:
        line = child.stderr.readline()
        assert line, "orch ended before it had handed over"
    child.stderr.readline()  # the first line of the view: the waiting has begun
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 130, err
    assert "nothing was cancelled" in err

    followed = shell.orch("status", "--watch")

    assert followed.returncode == 0
    assert {job["state"] for job in shell.document("status")["jobs"]} == {"COMPLETED"}
