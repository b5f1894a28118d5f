"""What of two finished jobs must be equal, and the uninterrupted runs to compare with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.contract.paths import JobDir
from jobs.contract.records import ResultRecord, read_record
from jobs.spec import Run
from tests.e2e.harness import WAITED_FOR, Bench, semantic, write_task
from worker.forkserver import ForkServer


@dataclass(frozen=True)
class Outcome:
    """All that must be equal, bit by bit."""

    weights: str
    final_weights: str | None
    metrics: bytes
    test: dict[str, float]
    predictions: str | None


def outcome(bench: Bench) -> Outcome:
    """Read the outcome of a finished job."""
    return outcome_of(bench.job)


def outcome_of(job: JobDir) -> Outcome:
    """Read the outcome of a finished job from its directory."""
    result = read_record(job.result, ResultRecord)
    assert result is not None, f"{job.path}: no result was published"
    return Outcome(
        weights=result.weights_digest,
        final_weights=result.final_weights_digest,
        metrics=job.metrics.read_bytes(),
        test=result.metrics["test"],
        predictions=result.predictions_digest,
    )


def bench(
    root: Path,
    name: str,
    server: ForkServer | None,
    *,
    run: Run = WAITED_FOR,
    held_out: int = 11,
    **changes: Any,
) -> Bench:
    """Return a bench for the tiny job with changes; `held_out`: examples of dev and test each."""
    task = write_task(root / "task", held_out=held_out)
    return Bench(root / name, server, semantic(task, **changes), run)


def uninterrupted(root: Path, server: ForkServer, *, held_out: int = 11, **changes: Any) -> Outcome:
    """Run the job in one attempt."""
    job = bench(root, "whole", server, held_out=held_out, **changes)
    job.until_done(limit=1)
    return outcome(job)
