"""Command jobs in a state directory of their own, and how their attempts ended."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

from jobs.contract.records import ExitRecord, Outcome, ResultRecord
from jobs.matrix import load_matrix
from jobs.spec import JobSpec, Run
from orchestrator.evidence import read_result
from orchestrator.snapshots import publish_snapshots
from tests.e2e.harness import Attempted, Bench


def bench(root: Path, script: str, *, argv: str = "[python, job.py]", extra: str = "") -> Bench:
    """Return a job that runs `script`, submitted with its snapshot."""
    root.mkdir(exist_ok=True)
    (root / "job.py").write_text(script)
    (root / "m.yaml").write_text(
        f"version: 1\nname: cmd\ndefaults:\n  command:\n    argv: {argv}\n    code: [job.py]\n"
        f"    params: {{lr: 0.5}}\n{extra}grace_seconds: 8\nseeds: [3]\n"
    )
    (spec,) = load_matrix(root / "m.yaml").jobs
    made = Bench(root, None, spec.semantic, spec.run, rank_timeout=5.0)
    publish_snapshots(made.state, [spec])
    return made


def ended(attempted: Attempted, outcome: Outcome, code: int) -> ExitRecord:
    """Check how an attempt ended; return rank 0's record."""
    record = attempted.exit()
    assert record is not None, attempted.log()
    assert (record.outcome, record.exit_code) == (outcome, code), attempted.log()
    return record


def preempt(job: Bench, *, step: int, tries: int = 1) -> Attempted:
    """Run an attempt, send the notice once it has said `step`."""
    launched = job.start()
    try:
        launched.until(lambda: said_step(job, tries) >= step, f"step {step}")
        launched.signal_ranks(signal.SIGTERM)
        return launched.wait()
    finally:
        launched.end()


def said_step(job: Bench, epoch: int) -> int:
    """Return the step of an attempt's heartbeat."""
    try:
        return int(json.loads(job.job.attempt(epoch).progress.read_text())["step"])
    except FileNotFoundError:
        return -1


def result_of(job: Bench) -> ResultRecord:
    """Return the result as the orchestrator sees it."""
    result, why = read_result(job.job, job.spec)
    assert result is not None, why
    return result


def with_run(spec: JobSpec, **changes: Any) -> JobSpec:
    """Return the spec with other fields of its run part."""
    run: Run = spec.run.model_copy(update=changes)
    return spec.model_copy(update={"run": run})


def gone(pid: int) -> bool:
    """Return whether a process has ended."""
    try:
        return "Z" in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return True
