"""A state directory with a real database, filled without any scheduler."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from durable.files import private_dir
from jobs.contract.paths import StateDir
from orchestrator.database import Database

MATRIX = "quickstart"


def job_id(number: int) -> str:
    """Return the id of the n-th made-up job."""
    return f"{number:016x}"[::-1]


def write_state(home: Path, states: Mapping[int, str], **columns: Any) -> StateDir:
    """Create `home` with one matrix; `states` maps job numbers to their state.

    `columns` are set on every job, e.g. `reason="…"`, `step=20`.
    """
    state = StateDir(private_dir(home))
    database = Database(state.database)
    with database.writing(database.take_lease()):
        run = database._connection.execute
        run(
            "INSERT INTO matrices (digest, name, path, cells, submitted_at)"
            " VALUES ('d', ?, 'm.yaml', ?, 0)",
            (MATRIX, len(states)),
        )
        for number, job_state in states.items():
            values = {
                "id": job_id(number),
                "name": f"{MATRIX}-{number:04d}",
                "spec": json.dumps({"semantic": {"train": {"lr": number / 1000}, "seed": 1}}),
                "state": job_state,
                "state_since": 0,
                "total_steps": 60,
                **columns,
            }
            names, marks = ", ".join(values), ", ".join("?" * len(values))
            run(f"INSERT INTO jobs ({names}) VALUES ({marks})", tuple(values.values()))
            run("INSERT INTO matrix_jobs VALUES ('d', ?, ?)", (job_id(number), number))
    database.close()
    write_beat(home)
    return state


def write_beat(home: Path, *, age_seconds: float = 0.0) -> None:
    """Say that the last look at the scheduler was so long ago; a fresh one is used again."""
    beat = {"verb": "tick", "host": "there", "pid": 1, "last_tick": time.time() - age_seconds}
    (home / "heartbeat.json").write_text(json.dumps(beat))


def write_result(home: Path, number: int, **fields: Any) -> None:
    """Give a made-up job a result."""
    record = {
        "exact": True,
        "weights_digest": f"sha256:{number:064x}",
        "metrics": {"test": {"loss": 1.0 + number}},
        **fields,
    }
    database = Database(StateDir(home).database)
    with database.writing(database.take_lease()):
        database.run("result_add", {"job": job_id(number), "record": json.dumps(record)})
    database.close()
