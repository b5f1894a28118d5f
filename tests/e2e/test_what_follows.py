"""What follows an end, end to end: the local backend, real workers, the policy in between."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from jobs.contract.records import ExitRecord, read_record
from jobs.spec import JobSpec, Run, job_id
from jobs.states import TERMINAL, JobState
from orchestrator.rows import JobRow
from orchestrator.schedulers.local import LocalScheduler
from orchestrator.service import Service
from tests.contract.stub import make_matrix
from tests.e2e.harness import TINY, semantic, write_task
from worker.forkserver import ForkServer

pytestmark = pytest.mark.e2e
PATIENCE_SECONDS = 120.0


class LocalRun:
    """A job on the local backend; `faults` has what ORCH_FAULT says to attempt 1, 2, …"""

    def __init__(
        self,
        root: Path,
        server: ForkServer,
        monkeypatch: pytest.MonkeyPatch,
        *,
        retry: dict[str, Any],
        **changes: Any,
    ) -> None:
        run = {
            "save": {"every_steps": 3, "background": False},
            "retry": {"delay_seconds": 0.0, **retry},
        }
        what = semantic(write_task(root / "task"), **changes)
        self.spec = JobSpec(
            id=job_id(what), name="tiny", semantic=what, run=Run.model_validate(run)
        )
        self._monkeypatch = monkeypatch
        monkeypatch.setenv("ORCH_FORKSERVER", str(server.socket))
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        home = root / "orch"
        self.service = Service.open(home, scheduler=LocalScheduler(home, cpus=1, gpus=()))
        self.job = self.service.state.job(self.spec.id)

    def until_over(self, *faults: str) -> JobRow:
        """Tick until the job is over; return how it stands."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        self._fault(faults)
        self.service.submit([make_matrix([self.spec])])
        while True:
            self._fault(faults)
            self.service.tick()
            (row,) = self.service.rows(None)
            if row.state in TERMINAL or row.state is JobState.HELD:
                self.service.close()
                return row
            assert time.monotonic() < deadline, row
            time.sleep(0.02)

    def _fault(self, faults: tuple[str, ...]) -> None:
        # A tick that takes an end in hands the job over at once: what is on disk counts.
        begun = len(list(self.job.epochs.glob("*.json"))) if self.job.epochs.is_dir() else 0
        self._monkeypatch.setenv("ORCH_FAULT", faults[begun] if begun < len(faults) else "")

    def exit(self, epoch: int) -> ExitRecord:
        """Return what rank 0 of an attempt said."""
        record = read_record(self.job.attempt(epoch).exit_record(0), ExitRecord)
        assert record is not None
        return record

    def curve(self) -> dict[int, float]:
        """Return step -> training loss of the published curve."""
        lines = self.job.metrics.read_text().splitlines()
        rows = [json.loads(line) for line in lines]
        return {row["step"]: row["loss"] for row in rows if "loss" in row}


def dies(hits: int) -> str:
    """Raise after so many steps of an attempt."""
    return f"loop.after_step:raise=ValueError@{hits}"


def test_a_poison_checkpoint_is_left_for_the_one_before_then_it_stops(
    tmp_path: Path, fork_server: ForkServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three deaths at step 8 after resuming from step 6: from step 3 it tries once more."""
    run = LocalRun(
        tmp_path,
        fork_server,
        monkeypatch,
        retry={"exceptions": 9, "restarts_without_progress": 9},
    )

    row = run.until_over(dies(8), dies(2), dies(2), dies(2), dies(5), "")

    assert (row.state, row.attempts) == (JobState.FAILED, 5)
    assert [run.exit(epoch).last_step for epoch in range(1, 6)] == [8] * 5
    resumed = [_progress(run, epoch)["resumed_from"] for epoch in range(1, 6)]
    assert resumed == [None, *["step-00000006.e0001"] * 3, "step-00000003.e0001"]
    for word in ("poison", "step 8", "step-00000006.e0001", "step-00000003.e0001"):
        assert word in row.reason
    (cell,) = (run.job.checkpoints / "quarantine").iterdir()
    assert (cell / "step-00000006.e0001" / "MANIFEST.json").exists()  # the evidence is whole
    reason = json.loads((cell / "QUARANTINE.json").read_text())["reason"]
    assert reason == "3 attempts died at step 8 after resuming from it"
    assert any("quarantined" in line for line in _progress(run, 5)["reports"])


def test_an_older_checkpoint_can_lead_to_the_result(
    tmp_path: Path, fork_server: ForkServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The way back is a way on: the chain of states is unbroken, the result exact."""
    run = LocalRun(
        tmp_path,
        fork_server,
        monkeypatch,
        retry={"exceptions": 9, "restarts_without_progress": 9},
    )

    row = run.until_over(dies(8), dies(2), dies(2), dies(2), "")

    assert (row.state, row.attempts) == (JobState.COMPLETED, 5)
    result = json.loads(run.job.result.read_text())
    assert result["exact"] is True
    assert sorted(run.curve()) == list(range(1, 13))


def test_out_of_device_memory_trains_on_the_same_examples_in_smaller_pieces(
    tmp_path: Path, fork_server: ForkServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Micro-batch 2 -> 1: the loss of every step stays (but for rounding), and the result says so.

    Without dropout the loss of a step depends on its examples and on all steps before.
    """
    dry = {**TINY, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "resid_pdrop": 0.0}
    same = {"retry": {}, "method__dropout": 0.0, "model__config": dry}
    whole = LocalRun(tmp_path / "a", fork_server, monkeypatch, **same)
    assert whole.until_over().state is JobState.COMPLETED
    cut = LocalRun(tmp_path / "b", fork_server, monkeypatch, **same)

    row = cut.until_over("loop.after_step:raise=OutOfMemoryError@5")

    assert (row.state, row.attempts) == (JobState.COMPLETED, 2)
    assert cut.exit(1).outcome == "device_oom"
    claim = json.loads(cut.job.epoch(2).read_text())
    assert claim["overrides"]["micro_batch"] == 1
    assert sorted(cut.curve()) == sorted(whole.curve()) == list(range(1, 13))
    assert cut.curve() == pytest.approx(whole.curve(), rel=1e-5)
    result = json.loads(cut.job.result.read_text())
    assert result["exact"] is False
    assert any(reason.startswith("micro_batch 2 -> 1") for reason in result["inexact_reasons"])


def test_host_memory_on_record_asks_for_more(
    tmp_path: Path, fork_server: ForkServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rank that could not allocate: 2 -> 3 -> 4 GB, then the stop names the cap."""
    oom = "loop.after_step:raise=MemoryError@1"
    run = LocalRun(tmp_path, fork_server, monkeypatch, retry={"max_memory_gb": 4.0})

    row = run.until_over(oom, oom, oom)

    assert (row.state, row.attempts) == (JobState.FAILED, 3)
    claims = [json.loads(run.job.epoch(n).read_text())["overrides"] for n in (1, 2, 3)]
    assert [claim["memory_gb"] for claim in claims] == [None, 3.0, 4.0]
    assert "out of memory with 4 GB: retry.max_memory_gb is 4" in row.reason


def _progress(run: LocalRun, epoch: int) -> dict[str, Any]:
    progress: dict[str, Any] = json.loads(run.job.attempt(epoch).progress.read_text())
    return progress
