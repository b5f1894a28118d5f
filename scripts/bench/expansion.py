"""Time and memory of loading, expanding and planning a matrix, against the floor of the task.

Peer: `itertools.product` over the same axes and the sha256 of the canonical JSON of each cell's
experiment, in plain dicts: no strict YAML, no checks, no names, no specs, no store. Each
measurement is a process of its own; wall and CPU seconds, peak memory. Leaves with 1 when a
promise is not kept by CPU time (other work on the machine does not count).
"""

from __future__ import annotations

import hashlib
import itertools
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SIZES = (1_000, 10_000, 100_000)
SECONDS, MEGABYTES = 5.0, 500
RANKS, SEEDS = 10, 10
MODEL = {"family": "decoder", "config": {"n_layer": 2, "n_embd": 64}}
TASK = {"name": "tsv", "path": "package:quickstart"}


def rates(cells: int) -> list[float]:
    """Return the values of the long axis."""
    return [float(f"{(n + 1) * 1e-5:.6g}") for n in range(cells // (RANKS * SEEDS))]


def write_matrix(folder: Path, cells: int) -> Path:
    """Write a matrix of so many cells: learning rates × ranks × seeds."""
    path = folder / f"{cells}.yaml"
    path.write_text(
        f"version: 1\nname: big\nmax_cells: {cells}\nseeds: {SEEDS}\n"
        f"defaults:\n  model: {json.dumps(MODEL)}\n  method: {{name: lora}}\n"
        f"  task: {json.dumps(TASK)}\n  train: {{steps: 60, global_batch: 8}}\n"
        f"matrix:\n  train.lr: {json.dumps(rates(cells))}\n"
        f"  method.rank: {json.dumps(list(range(1, RANKS + 1)))}\n"
    )
    return path


def ours(folder: Path, cells: int) -> int:
    """Load, expand, plan; return how many of the jobs are new."""
    from jobs.matrix import load_matrix
    from orchestrator.service import Service

    matrix = load_matrix(folder / f"{cells}.yaml")
    assert len(matrix.jobs) == cells
    return Service.open(folder / "state").plan([matrix]).new


def peer(_folder: Path, cells: int) -> int:
    """Do the least that identities of the same cells need."""
    axes = (rates(cells), range(1, RANKS + 1), range(SEEDS))
    found = set()
    for lr, rank, seed in itertools.product(*axes):
        cell = {
            "model": MODEL,
            "task": TASK,
            "method": {"name": "lora", "rank": rank},
            "train": {"steps": 60, "global_batch": 8, "lr": lr},
            "seed": seed,
        }
        text = json.dumps(cell, sort_keys=True, separators=(",", ":")).encode()
        found.add(hashlib.sha256(text).hexdigest()[:16])
    return len(found)


def fill(folder: Path, cells: int) -> int:
    """Take the matrix into the store, as the holder of the lease does; no spec.json is written."""
    from jobs.matrix import load_matrix
    from orchestrator.service import Service

    matrix = load_matrix(folder / f"{cells}.yaml")
    service = Service.open(folder / "state")
    database, store = service._database, service.store
    with store.writing(database.take_lease()):
        store.add_matrix(digest="d", name="big", path="big.yaml", cells=cells)
        store.add_jobs(matrix.jobs, matrix="d")
    return cells


def measured(what: str, folder: Path, cells: int) -> tuple[float, float, int, int]:
    """Return wall seconds, CPU seconds, peak megabytes and the answer of one run in a child."""
    command = [sys.executable, "-P", __file__, what, str(folder), str(cells)]
    answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    wall, cpu, megabytes, number = answer.split()
    return float(wall), float(cpu), int(megabytes), int(number)


def child(what: str, folder: Path, cells: int) -> None:
    """Run one measurement and print it."""
    wall, cpu = time.perf_counter(), time.process_time()
    number = {"ours": ours, "peer": peer, "fill": fill}[what](folder, cells)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"{wall:.3f} {cpu:.3f} {peak} {number}")


def main() -> int:
    """Print a table; return 1 when the promise is not kept."""
    kept = True
    with tempfile.TemporaryDirectory(prefix="orch-expand-") as name:
        print("cells     store    wall s   CPU s   peak MB   peer CPU s   ratio")
        for cells in SIZES:
            folder = Path(name) / str(cells)
            folder.mkdir()
            write_matrix(folder, cells)
            for store in ("empty", "filled"):
                if store == "filled":
                    measured("fill", folder, cells)
                wall, cpu, peak, new = measured("ours", folder, cells)
                assert new == (cells if store == "empty" else 0)
                _, bare, _, _ = measured("peer", folder, cells)
                print(
                    f"{cells:<9,} {store:<7} {wall:7.2f} {cpu:7.2f} {peak:9} {bare:12.2f}"
                    f" {cpu / bare:7.1f}"
                )
                kept = kept and cpu < SECONDS and peak < MEGABYTES
    verdict = "kept" if kept else "BROKEN"
    print(f"promise (100,000 cells: < {SECONDS:g} s, < {MEGABYTES} MB): {verdict}")
    return 0 if kept else 1


if __name__ == "__main__":
    if len(sys.argv) == 4:
        child(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
    else:
        sys.exit(main())
