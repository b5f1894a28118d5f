"""How a tick's CPU time grows with the number of running jobs.

A real service with the Slurm backend, real job directories, and a squeue on PATH that prints the
rows of a recorded format. Before each tick every job's heartbeat is written anew, as workers do
each second; that is not measured.
"""

from __future__ import annotations

import os
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from jobs.contract.paths import StateDir
from jobs.contract.records import EpochRecord, ProgressRecord
from jobs.matrix import load_matrix
from jobs.spec import JobSpec
from orchestrator.database import Database
from orchestrator.interval import CLUSTER
from orchestrator.schedulers.slurm import SlurmScheduler
from orchestrator.service import Service

ARRAY = 1000
CPU_LIMIT, CPU_MINUTES_A_DAY = 1.0, 5.0
SQUEUE = """#!/bin/sh
for word in "$@"; do case "$word" in --format=*) format="${word#--format=}" ;; esac; done
separator="${format#%F}"; separator="${separator%%%K*}"; end="${format##*%k}"
exec sed -e "s/|/$separator/g" -e "s/\\$/$end/" "$ORCH_BENCH_ROWS"
"""
MATRIX = """\
version: 1
name: many
defaults:
  model: {family: decoder, config: {n_layer: 2, n_embd: 64}}
  method: {name: lora, rank: 8, alpha: 16}
  task: {name: tsv, path: "package:quickstart"}
  train: {steps: 1000, global_batch: 8, micro_batch: 4, lr: 1e-3}
  engine: {ranks: 1, zero_stage: 2, precision: fp32, threads_per_rank: 1}
seeds: [%s]
resources: {memory_gb: 2, time_limit_minutes: 30}
save: {every_steps: 20}
"""


def make_specs(folder: Path, count: int) -> Sequence[JobSpec]:
    """Return the jobs of a matrix of so many seeds."""
    path = folder / "many.yaml"
    path.write_text(MATRIX % ", ".join(map(str, range(count))))
    return load_matrix(path).jobs


def fill(home: Path, specs: Sequence[JobSpec]) -> list[str]:
    """Write a store and directories of these jobs, all running; return their ids."""
    home.mkdir(mode=0o700)
    state, database = StateDir(home), Database(home / "orch.sqlite3")
    count = len(specs)
    with database.writing(database.take_lease()):
        run = database._connection.execute
        run(
            "INSERT INTO matrices (digest, name, path, cells, submitted_at)"
            " VALUES ('d', 'many', 'm.yaml', ?, 0)",
            (count,),
        )
        for number, spec in enumerate(specs):
            job = spec.id
            token, index = f"{number // ARRAY:016x}", number % ARRAY
            if index == 0:
                run(
                    "INSERT INTO submissions (token, scheduler, state, scheduler_id, created_at)"
                    " VALUES (?, 'slurm', 'accepted', ?, 0)",
                    (token, str(100 + number // ARRAY)),
                )
            run(
                "INSERT INTO jobs (id, name, spec, state, state_since, reason, total_steps, epoch)"
                " VALUES (?,?,?,'RUNNING',0,'running on n1',1000,1)",
                (job, f"many-{number}", spec.to_json().decode()),
            )
            run("INSERT INTO matrix_jobs VALUES ('d', ?, ?)", (job, number))
            run("INSERT INTO tasks (token, idx, job) VALUES (?, ?, ?)", (token, index, job))
            claim = EpochRecord(
                epoch=1, token=token, scheduler="slurm", scheduler_id="1", host="n1", boot_id="b",
                pid=1, pid_start=1.0, started_at=0.0,
            )  # fmt: skip
            state.job(job).epochs.mkdir(parents=True)
            state.job(job).epoch(1).write_bytes(claim.to_json())
            state.job(job).attempt(1).path.mkdir(parents=True)
    database.close()
    return [spec.id for spec in specs]


def beat(state: StateDir, ids: list[str], sequence: int) -> None:
    """Be the workers: one heartbeat each."""
    record = ProgressRecord(
        epoch=1, sequence=sequence, phase="training", step=10 * sequence, total_steps=1000,
        committed_step=5 * sequence, loss=1.5, written_at=time.time(),
    )  # fmt: skip
    data = record.to_json()
    for job in ids:
        path = state.job(job).attempt(1).progress
        fresh = path.with_name("progress.json.new")
        fresh.write_bytes(data)
        fresh.rename(path)


def measure(folder: Path, count: int, ticks: int) -> tuple[float, float, float]:
    """Return the CPU seconds of the first tick, of a steady one, and of its children."""
    home = folder / str(count)
    ids = fill(home, make_specs(folder, count))
    rows = [
        f"{100 + n // ARRAY}|{n % ARRAY}|RUNNING|None|n1|2026-11-23T00:00:00"
        f"|orch:{n // ARRAY:016x}|orch:{n // ARRAY:016x} many"
        for n in range(count)
    ]
    listing = folder / f"{count}.rows"
    listing.write_text("\n".join(rows) + "\n")
    os.environ["ORCH_BENCH_ROWS"] = str(listing)
    service = Service.open(home, scheduler=SlurmScheduler(home))
    figures: list[tuple[float, float]] = []
    for number in range(ticks + 2):
        beat(service.state, ids, number + 1)
        before, others = time.process_time(), resource.getrusage(resource.RUSAGE_CHILDREN)
        report = service.tick()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if report.unreachable is not None or report.open_jobs != count:
            raise SystemExit(f"not a steady tick: {report}")
        children = after.ru_utime + after.ru_stime - others.ru_utime - others.ru_stime
        figures.append((time.process_time() - before, children))
    known = service.rows(ids[-1])[0]
    if known.step != 10 * (ticks + 2):
        raise SystemExit(f"the last heartbeat was not seen: {known}")
    service.close()
    steady = sorted(figures[2:])[len(figures[2:]) // 2]
    return figures[0][0], steady[0], steady[1]


def main(ticks: int, counts: list[int]) -> int:
    """Print each size; return 1 when a promise is broken."""
    broken = False
    with tempfile.TemporaryDirectory() as folder:
        stub = Path(folder) / "bin" / "squeue"
        stub.parent.mkdir()
        stub.write_text(SQUEUE)
        stub.chmod(0o755)
        os.environ["PATH"] = f"{stub.parent}:{os.environ['PATH']}"
        for count in counts:
            first, steady, children = measure(Path(folder), count, ticks)
            minutes = (steady + children) * 86_400 / CLUSTER.steady / 60
            print(
                f"tick over {count:>7,} running jobs: {steady:.3f} s CPU (first {first:.2f} s;"
                f" the squeue stub {children:.3f} s), {minutes:.1f} CPU-minutes a day"
            )
            broken |= count == 10_000 and steady > CPU_LIMIT
            broken |= count == 1_000 and minutes > CPU_MINUTES_A_DAY
    return int(broken)


if __name__ == "__main__":
    words = [int(word) for word in sys.argv[1:]]
    sys.exit(main(words[0] if words else 3, words[1:] or [1_000, 10_000]))
