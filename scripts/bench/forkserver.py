"""Time one small job warm (ranks forked from a server that has imported everything) and cold.

Peer: the same job through cold `python -P -m worker` ranks. Prints seconds, the ratio and
whether both results have the same weights. The server's own start is printed apart.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from jobs.contract.paths import StateDir
from jobs.contract.records import TaskRecord, TasksRecord
from jobs.spec import JobSpec, Semantic, job_id
from worker.forkserver import ForkServer
from worker.spawning import FORKSERVER

RANKS = 2


def tiny_job() -> JobSpec:
    semantic = Semantic.model_validate(
        {
            "model": {"family": "decoder", "config": {"n_layer": 1, "n_embd": 32, "n_head": 2}},
            "method": {"name": "lora", "rank": 4, "dropout": 0.1},
            "task": {"name": "tsv", "path": "package:quickstart", "max_eval_examples": 8},
            "train": {"steps": 6, "global_batch": 8},
            "engine": {"ranks": RANKS, "zero_stage": 2},
            "seed": 1,
        }
    )
    return JobSpec(id=job_id(semantic), name="bench", semantic=semantic)


def run(home: Path, extra: dict[str, str]) -> tuple[float, str]:
    """Run the job in a fresh state directory; return its seconds and its weights' digest."""
    spec, state = tiny_job(), StateDir(home)
    submission = state.submission("bench")
    for directory in (state.job(spec.id).path, submission.path):
        directory.mkdir(parents=True)
    state.job(spec.id).spec.write_bytes(spec.to_json())
    tasks = TasksRecord(token="bench", scheduler="local", tasks=(TaskRecord(index=0, job=spec.id),))
    submission.tasks.write_bytes(tasks.to_json())
    command = [sys.executable, "-P", "-m", "worker.launch"]
    command += ["--submission", str(submission.path), "--index", "0"]
    started = time.perf_counter()
    with submission.output(0).open("wb") as output:
        subprocess.run(
            command, env=dict(os.environ) | extra, stdout=output, stderr=output, check=False
        )
    seconds = time.perf_counter() - started
    result = state.job(spec.id).result
    if not result.exists():
        sys.exit(f"no result:\n{submission.output(0).read_text()[-3000:]}")
    return seconds, json.loads(result.read_text())["weights_digest"]


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        cold = [run(root / f"cold{n}", {}) for n in range(2)]
        started = time.perf_counter()
        with ForkServer.start(env={"HF_HUB_OFFLINE": "1"}) as server:
            ready = time.perf_counter() - started
            warm = [run(root / f"warm{n}", {FORKSERVER: str(server.socket)}) for n in range(5)]
    fast, slow = min(s for s, _ in warm), min(s for s, _ in cold)
    print(f"cold {slow:.1f} s, warm {fast:.1f} s: {slow / fast:.1f}× (best of 2 and 5)")
    print(f"the server itself: {ready:.1f} s, once")
    print(f"weights equal: {len({digest for _, digest in warm + cold}) == 1}")


if __name__ == "__main__":
    main()
