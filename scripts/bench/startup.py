"""Start-up times of the command line as ratios to the bare imports of its libraries.

Ours and the peer run in turn, so that other work on the machine hits both alike; medians of
wall time over all runs are compared. Leaves with 1 when a promise is not kept.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from jobs.contract.paths import StateDir
from jobs.contract.records import ProgressRecord
from orchestrator.database import Database

PEER = [sys.executable, "-c", "import typer, rich, pydantic, sqlite3"]
ORCH = [sys.executable, "-P", "-m", "orchestrator"]
JOBS = 10_000
# How many of ten thousand jobs are in each state.
STATES = {"COMPLETED": 3000, "FAILED": 20, "RUNNING": 100, "RETRYING": 30, "QUEUED": 6850}
SPEC = json.dumps({"semantic": {}, "filler": "x" * 1400})  # as long as a real one
HEARTBEAT = ProgressRecord(
    epoch=1, sequence=9, phase="training", step=500, total_steps=1000, written_at=0.0
)
HELP_LIMIT, STATUS_LIMIT = 1.5, 3.0


def seconds(command: Sequence[str], environment: Mapping[str, str]) -> float:
    """Return the wall time of one run of a command that must succeed."""
    start = time.perf_counter()
    subprocess.run(command, env=environment, check=True, capture_output=True)
    return time.perf_counter() - start


def compare(name: str, ours: Sequence[str], environment: Mapping[str, str], runs: int) -> float:
    """Print medians of ours and of the peer, and return their ratio."""
    seconds(ours, environment), seconds(PEER, environment)  # byte code and file cache
    times = [(seconds(ours, environment), seconds(PEER, environment)) for _ in range(runs)]
    mine, bare = (statistics.median(column) for column in zip(*times, strict=True))
    print(f"{name}: ours {mine:.3f} s, bare imports {bare:.3f} s, ratio {mine / bare:.2f}")
    return mine / bare


def fill(home: Path, jobs: int = JOBS) -> None:
    """Write a database of so many jobs of one matrix, each with a submission's task."""
    home.mkdir(mode=0o700)
    # The scheduler was looked at just now: status is measured, not squeue.
    beat = {"verb": "tick", "host": "there", "pid": 1, "last_tick": time.time() + 3600}
    (home / "heartbeat.json").write_text(json.dumps(beat))
    database = Database(home / "orch.sqlite3")
    numbers = {state: max(1, number * jobs // JOBS) for state, number in STATES.items()}
    states = [state for state, number in numbers.items() for _ in range(number)][-jobs:]
    with database.writing(database.take_lease()):
        run = database._connection.execute
        run(
            "INSERT INTO matrices (digest, name, path, cells, submitted_at)"
            " VALUES ('d', 'big', 'big.yaml', ?, 0)",
            (jobs,),
        )
        token = "0123456789abcdef"
        run(
            "INSERT INTO submissions (token, scheduler, state, scheduler_id, created_at)"
            " VALUES (?, 'slurm', 'accepted', '1234', 0)",
            (token,),
        )
        for index, state in enumerate(states):
            job = f"{index:016x}"
            run(
                "INSERT INTO jobs (id, name, spec, state, state_since, reason, total_steps, epoch,"
                " step, attempts, preemptions, loss) VALUES (?,?,?,?,0,?,1000,1,?,1,?,1.5)",
                (job, f"big-{index:05d}", SPEC, state, "Priority", index % 1000, index % 3),
            )
            run("INSERT INTO matrix_jobs VALUES ('d', ?, ?)", (job, index))
            run(
                "INSERT INTO tasks (token, idx, job, live) VALUES (?, ?, ?, ?)",
                (token, index, job, int(state in ("RUNNING", "QUEUED"))),
            )
            if state == "RUNNING":
                progress = StateDir(home).job(job).attempt(1).progress
                progress.parent.mkdir(parents=True)
                progress.write_bytes(HEARTBEAT.to_json())
    database.close()


def main(what: str, runs: int) -> int:
    """Run one benchmark; return the exit code."""
    if what == "help":
        return int(compare("orch --help", [*ORCH, "--help"], os.environ, runs) > HELP_LIMIT)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "orch"
        fill(home)
        environment = {**os.environ, "ORCH_HOME": str(home)}
        ratios = [
            compare(f"orch status{words}", [*ORCH, "status", *words.split()], environment, runs)
            for words in ("", " --json")
        ]
    return int(max(ratios) > STATUS_LIMIT)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
