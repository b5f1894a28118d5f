"""Service and Slurm backend against commands that lie by a script: P1, P2 and P6 hold.

Whatever sbatch and squeue say, a job is never lost, never twice on the cluster, and nothing is
decided by an answer that is none.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from durable.clock import FakeClock
from jobs.states import TERMINAL, JobState
from orchestrator.schedulers import slurm_commands, slurm_submit
from orchestrator.schedulers.slurm import SlurmScheduler
from orchestrator.service import Service
from tests.contract.stub import make_matrix, make_spec

STUB = Path(__file__).parents[2] / "stubs" / "slurm_stub.py"
COMMANDS = ("sbatch", "squeue", "sacct", "scancel", "scontrol")
SPECS = [make_spec(seed, steps=10) for seed in range(60, 63)]
TIMED_OUT = "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation\n"


class Liars:
    """Slurm's commands as a script has them, and a service that has to live with them."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder / "bin"
        self.folder.mkdir()
        text = STUB.read_text()
        for name in COMMANDS:
            (self.folder / name).write_text(f"#!{sys.executable} -SE\n{text}")
            (self.folder / name).chmod(0o755)
        monkeypatch.setenv("PATH", f"{self.folder}:/usr/bin:/bin")
        self.clock = FakeClock()
        home = folder / "orch"
        scheduler = SlurmScheduler(home, clock=self.clock, query_seconds=3.0)
        self.service = Service.open(home, scheduler=scheduler, clock=self.clock)

    def script(self, **steps: list[dict[str, Any]]) -> None:
        """Say how the next calls behave."""
        (self.folder / "script.json").write_text(json.dumps(steps))

    def cluster(self) -> list[dict[str, Any]]:
        """Return what the cluster has that was not cancelled."""
        path = self.folder / "cluster.json"
        jobs = json.loads(path.read_text()) if path.exists() else []
        return [job for job in jobs if job["word"] != "CANCELLED"]

    def submit(self) -> None:
        """Submit three jobs of one resource group."""
        self.service.submit([make_matrix(SPECS)])

    def tick(self, times: int = 1, seconds: float = 40.0) -> None:
        """Let time pass and look."""
        for _ in range(times):
            self.clock.advance(seconds)
            self.service.tick()

    def states(self) -> set[JobState]:
        """Return the states of all jobs."""
        return {row.state for row in self.service.rows()}

    def assert_one_effective(self) -> None:
        """Nothing lost, nothing doubled: one live array on the cluster, and the store knows it."""
        (job,) = self.cluster()
        assert len(job["indices"]) == len(SPECS)
        assert {row.scheduler_id for row in self.service.rows()} == {
            f"{job['id']}_{index}" for index in job["indices"]
        }


@pytest.fixture
def liars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Liars:
    assert shutil.which(sys.executable)
    return Liars(tmp_path, monkeypatch)


ACCEPTED_AND = {
    "a time-out": {"stdout": "", "stderr": TIMED_OUT, "rc": 1},
    "a banner": {"before": "Welcome!\n"},
    "nothing": {"stdout": ""},
    "rc 1": {"rc": 1, "stdout": "", "stderr": "sbatch: error: something\n"},
    "rubbish": {"size": 1 << 20},
}
NOT_ACCEPTED_AND = {
    "rc 1": {"accept": False, "rc": 1, "stderr": TIMED_OUT},
    "nothing": {"accept": False},
}
LIES = {
    "rc 1": {"rc": 1, "stdout": "", "stderr": "slurm_load_jobs error: Unable to contact\n"},
    "an error and rc 0": {"stdout": "", "stderr": "squeue: error: Socket timed out\n"},
    "a banner behind": {"stdout": "Welcome to the cluster!\n"},
    "half a row": {"half": True},
    "another locale": {"word": "WARTEND"},
    "too much": {"size": 4 << 20},
}


@pytest.mark.parametrize("step", ACCEPTED_AND.values(), ids=ACCEPTED_AND)
def test_an_accepted_submission_is_adopted_whatever_sbatch_said(
    liars: Liars, step: dict[str, Any]
) -> None:
    """Unknown is not refused: the token is searched, and found."""
    liars.script(sbatch=[step])

    liars.submit()
    liars.tick(2)

    liars.assert_one_effective()


@pytest.mark.parametrize("step", NOT_ACCEPTED_AND.values(), ids=NOT_ACCEPTED_AND)
def test_a_submission_that_never_arrived_is_handed_over_again_after_a_quiet_time(
    liars: Liars, step: dict[str, Any]
) -> None:
    """Not at once: it might still arrive. But it is not forgotten either."""
    liars.script(sbatch=[step])

    liars.submit()
    liars.tick(1)
    assert liars.cluster() == []
    liars.tick(8)

    liars.assert_one_effective()


def test_an_sbatch_that_hangs_after_acceptance_is_adopted(
    liars: Liars, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is killed at its time-out; its job is ours."""
    monkeypatch.setattr(slurm_submit, "SBATCH_SECONDS", 2.0)
    liars.script(sbatch=[{"stdout": "", "sleep": 60}])

    liars.submit()
    liars.tick(2)

    liars.assert_one_effective()


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
def test_a_lying_squeue_changes_nothing(
    liars: Liars, monkeypatch: pytest.MonkeyPatch, lie: dict[str, Any]
) -> None:
    """However often it lies: no state, no count of absences, no submission, no cancel."""
    monkeypatch.setattr(slurm_commands, "MAX_OUTPUT_BYTES", 1 << 20)
    liars.submit()
    liars.tick(2)
    before = [(row.id, row.state, row.reason) for row in liars.service.rows()]
    liars.script(squeue=[lie] * 6)

    liars.tick(6)

    assert [(row.id, row.state, row.reason) for row in liars.service.rows()] == before
    counts = liars.service.store.database._connection.execute("SELECT absent_count FROM tasks")
    assert {row[0] for row in counts} == {0}
    liars.tick()
    liars.assert_one_effective()


def test_a_squeue_that_hangs_is_cut_off_once_a_tick(liars: Liars) -> None:
    """A look that fails is shared: searching, observing and cancelling wait for it together."""
    liars.submit()
    liars.tick()
    liars.script(squeue=[{"sleep": 60}])

    liars.clock.advance(40.0)
    report = liars.service.tick()

    assert report.unreachable is not None
    assert "no answer within" in report.unreachable
    assert liars.states() == {JobState.QUEUED}


def test_forged_rows_decide_nothing(liars: Liars) -> None:
    """Another job's name holds lines that say ours are completed."""
    liars.submit()
    liars.tick()
    liars.script(squeue=[{"forge": True, "word": "RUNNING"}] * 3)

    liars.tick(3)

    assert liars.states() == {JobState.RUNNING}
    liars.assert_one_effective()


def test_a_cancel_that_cannot_be_checked_is_kept_and_done_later(liars: Liars) -> None:
    """scancel needs a token that was seen a moment ago; the wish outlives the outage."""
    liars.submit()
    liars.tick()
    liars.script(squeue=[{"rc": 1}] * 3)

    liars.service.cancel("stub")
    liars.tick(1)
    assert len(liars.cluster()) == 1
    liars.tick(2)

    assert liars.cluster() == []
    assert liars.states() <= TERMINAL
