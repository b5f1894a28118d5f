"""Memory that is too little and saves that take too long are said before anything is trained."""

from __future__ import annotations

from pathlib import Path

import pytest

from checkpoints.store import CheckpointStore
from jobs.contract.paths import StateDir
from jobs.contract.records import ProgressRecord, WorkerSite
from jobs.host_memory import PROCESS_BYTES, host_memory
from jobs.spec import JobSpec
from jobs.states import JobState
from orchestrator.checkpoint_space import predict, predictions
from orchestrator.rows import JobRow
from orchestrator.save_time import MeasuredSave, measured_saves, save_seconds, save_warning
from tests.unit.cli.test_checkpoint_space import spec
from tests.unit.cli.test_checkpoints import save

MB = 1_000_000


def test_the_memory_of_the_host_is_what_is_surely_allocated() -> None:
    """Weights and moments of every rank, the copies that are saved, and the processes."""
    plain = spec()
    semantic = plain.semantic.model_copy(  # type: ignore[union-attr]
        update={"engine": plain.semantic.engine.model_copy(update={"ranks": 2, "zero_stage": 0})}
    )
    semantic = semantic.model_copy(
        update={"train": semantic.train.model_copy(update={"select": "last"})}
    )
    found = host_memory(semantic, plain.run, parameters=1000, trained=100)
    copies = 2 * 100 * (4 + 8)  # every rank copies what it holds
    assert found.saves == copies
    assert found.total == 2 * PROCESS_BYTES + copies + 2 * (4000 + 400 + 800)
    beside_gpus = plain.run.model_copy(
        update={"resources": plain.run.resources.model_copy(update={"gpus_per_rank": 1})}
    )
    found = host_memory(semantic, beside_gpus, parameters=1000, trained=100)
    assert found.total == 2 * PROCESS_BYTES + copies


def test_partitions_are_counted_once() -> None:
    """With ZeRO 3 the ranks together hold the model once, and its optimizer once."""
    plain = spec()
    engine = plain.semantic.engine.model_copy(update={"ranks": 4, "zero_stage": 3})
    semantic = plain.semantic.model_copy(update={"engine": engine})
    found = host_memory(semantic, plain.run, parameters=1000, trained=100)  # type: ignore[arg-type]
    assert found.saves == 100 * 12
    assert found.total == 4 * PROCESS_BYTES + 1200 + 400 + 4000 + 400 + 1200


def test_too_little_memory_is_said_with_the_figure(tmp_path: Path) -> None:
    """Both figures, what saves need of it, and what to ask for."""
    starved = spec()
    resources = starved.run.resources.model_copy(update={"memory_gb": 0.25})
    run = starved.run.model_copy(update={"resources": resources})
    starved = starved.model_copy(update={"run": run})

    enough = predict([spec()], site=WorkerSite(), home=tmp_path)
    scarce = predict([spec(), starved], site=WorkerSite(), home=tmp_path)

    assert enough is not None
    assert enough.memory_warning() is None
    assert "memory of the host: at least" in enough.words()
    assert scarce is not None
    said = scarce.memory_warning()
    assert said is not None
    assert "1 of 2 jobs" in said
    assert said.endswith("ask for 1 and more")


def test_only_comparable_saves_tell_anything() -> None:
    """The median speed of saves that are not much smaller; without any there is no figure."""
    small = MeasuredSave(size=MB, seconds=1.0)
    saves = [MeasuredSave(size=50 * MB, seconds=s) for s in (1.0, 2.0, 25.0)]
    assert save_seconds(100 * MB, [small]) is None
    assert save_seconds(100 * MB, [small, *saves]) == pytest.approx(4.0)


def test_a_save_that_outlasts_the_grace_is_warned_of() -> None:
    """The worst job is named by its figures; a quick disk needs no word."""
    found = [one for one in predictions([spec()], site=WorkerSite()) if one is not None]
    size = found[0].each
    slow = [MeasuredSave(size=size, seconds=60.0)]
    said = save_warning(found, slow)
    assert said is not None
    assert "takes about 60 s" in said
    assert "grace_seconds is 30" in said
    assert save_warning(found, [MeasuredSave(size=size, seconds=29.0)]) is None
    assert save_warning(found, []) is None
    assert save_warning([], slow) is None


def row(job: JobSpec, *, epoch: int | None, committed: int | None = 10) -> JobRow:
    """Return what the store says of a job."""
    return JobRow(
        id=job.id,
        name="job",
        matrices=(),
        state=JobState.COMPLETED,
        step=None,
        total_steps=60,
        epoch=epoch,
        attempts=1,
        preemptions=0,
        scheduler=None,
        scheduler_id=None,
        reason="",
        committed_step=committed,
    )


def test_measured_is_what_the_newest_checkpoint_and_heartbeat_say(tmp_path: Path) -> None:
    """Jobs without a save, without a checkpoint, or with a broken one, are left out."""
    state, jobs = StateDir(tmp_path), [spec(seed=seed) for seed in range(1, 5)]
    for job in jobs[:3]:
        store = CheckpointStore(state.job(job.id).checkpoints, job=job.id, spec_digest="d")
        save(store, 10)
        progress = ProgressRecord(
            epoch=1, sequence=1, phase="finished", step=10, total_steps=60, written_at=0.0
        )
        progress = progress.model_copy(update={"save_seconds": 2.0 if job is not jobs[1] else None})
        path = state.job(job.id).attempt(1).progress
        path.parent.mkdir(parents=True)
        path.write_bytes(progress.to_json())
    manifest = next(state.job(jobs[2].id).checkpoints.glob("step-*")) / "MANIFEST.json"
    manifest.write_bytes(b"{}")

    rows = [row(job, epoch=1) for job in jobs] + [row(jobs[0], epoch=None)]
    (found,) = measured_saves(state, rows)
    whole = next(state.job(jobs[0].id).checkpoints.glob("step-*"))
    size = sum(p.stat().st_size for p in whole.rglob("*") if p.is_file())
    assert found.seconds == 2.0
    assert found.size == size - (whole / "MANIFEST.json").stat().st_size
