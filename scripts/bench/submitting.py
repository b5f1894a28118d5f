"""Time the submission of held jobs to a private Slurm: ours, and submitit's `map_array`.

Both in the same chunks, on the same cluster, one after the other; the matrix is expanded before.
What ours does beside: specs, intents and ids are durable, and nothing is submitted twice after a
crash. sbatch calls are counted. Leaves with 1 when a promise is not kept.
"""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import submitit

from jobs.matrix import Matrix, load_matrix
from orchestrator.devcluster.cluster import PrivateCluster
from orchestrator.devcluster.config import ClusterOptions
from orchestrator.schedulers.slurm import SlurmScheduler
from orchestrator.service import Service
from orchestrator.site_schema import Site

MAX_ARRAY = 1001  # Slurm's default
LIMIT = 1.0
SEEDS = 4  # of each cell


MATRIX = """\
version: 1
name: bench
defaults:
  model: {family: decoder, config: {n_layer: 1}}
  method: {name: lora}
  task: {name: tsv, path: "package:quickstart"}
  train: {steps: 10, global_batch: 4}
"""


def cells(folder: Path, count: int) -> Matrix:
    """Return a matrix of so many jobs of equal resources."""
    path = folder / "bench.yaml"
    rates = ", ".join(f"{step / 1e6:.6f}" for step in range(1, count // SEEDS + 1))
    path.write_text(f"{MATRIX}matrix: {{train.lr: [{rates}]}}\nseeds: {SEEDS}\n")
    return load_matrix(path)


class CountedSbatch:
    """An sbatch at the front of PATH that notes each call."""

    def __init__(self, folder: Path) -> None:
        self._log = folder / "calls"
        real = shutil.which("sbatch")
        stub = folder / "sbatch"
        stub.write_text(f'#!/bin/sh\necho "$1" >> {self._log}\nexec {real} "$@"\n')
        stub.chmod(0o755)
        os.environ["PATH"] = f"{folder}:{os.environ['PATH']}"

    def count(self) -> int:
        """Return the calls since the last count."""
        calls = len(self._log.read_text().splitlines()) if self._log.exists() else 0
        self._log.unlink(missing_ok=True)
        return calls


def queued() -> int:
    """Return how many tasks Slurm has."""
    command = ["squeue", "--noheader", "--array", "--format=%i"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return len(said.split())


def clear() -> None:
    """End them all."""
    subprocess.run(["scancel", "--user=root"], check=True)
    while queued():
        time.sleep(0.5)


def ours(home: Path, matrix: Matrix) -> float:
    """Submit with orch; return the seconds."""
    # no site may say `hold`: the jobs would wait for ever
    site = Site().model_copy(update={"extra": {"hold": True}})
    scheduler = SlurmScheduler(home, site=site)
    service = Service.open(home, scheduler=scheduler, max_in_flight=matrix.cells)
    started = time.perf_counter()
    report = service.submit([matrix])
    seconds = time.perf_counter() - started
    service.close()
    if report.submitted != matrix.cells:
        sys.exit(f"submitted {report.submitted} of {matrix.cells}: {report}")
    return seconds


def peer(folder: Path, count: int, chunk: int) -> float:
    """Submit with submitit; return the seconds."""
    executor = submitit.SlurmExecutor(folder=folder)
    executor.update_parameters(
        time=60, mem="2048M", array_parallelism=chunk, additional_parameters={"hold": True}
    )
    started = time.perf_counter()
    for first in range(0, count, chunk):
        executor.map_array(time.sleep, range(first, min(count, first + chunk)))
    return time.perf_counter() - started


def main(count: int) -> int:
    """Run both; return the exit code."""
    count -= count % SEEDS
    folder = Path(tempfile.mkdtemp(prefix="orch-bench-", dir="/var/tmp"))
    folder.chmod(0o755)
    cluster = PrivateCluster(folder / "slurm", say=lambda line: print(line, file=sys.stderr))
    try:
        cluster.up(ClusterOptions(nodes=1, extra={"MaxArraySize": str(MAX_ARRAY)}))
        os.environ.update(cluster.environment)
        (folder / "bin").mkdir()
        sbatch = CountedSbatch(folder / "bin")
        matrix = cells(folder, count)
        mine = ours(folder / "orch", matrix)
        calls, there = sbatch.count(), queued()
        clear()
        theirs = peer(folder / "submitit", count, MAX_ARRAY - 1)
        their_calls, theirs_there = sbatch.count(), queued()
        clear()
    finally:
        cluster.down(purge=True)
        shutil.rmtree(folder, ignore_errors=True)
    if (there, theirs_there) != (count, count):
        sys.exit(f"Slurm had {there} of ours and {theirs_there} of submitit's {count} tasks")
    bound = math.ceil(count / MAX_ARRAY) + 1
    print(
        f"{count} held jobs: ours {mine:.1f} s, submitit {theirs:.1f} s, ratio {mine / theirs:.2f}"
    )
    print(
        f"sbatch calls: ours {calls} (one of them a check; at most {bound}), submitit {their_calls}"
    )
    return int(mine / theirs > LIMIT or calls > bound)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
