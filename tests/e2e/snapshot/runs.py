"""Runs of `training` in fresh processes, forked from a warm server."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from tests.e2e.snapshot.training import Plan
from worker.forkserver import ForkServer

RUN = "tests.e2e.snapshot.training:run"


def run_plan(server: ForkServer, plan: Plan, *, timeout: float = 120.0) -> list[dict[str, Any]]:
    """Run all ranks of a plan; return their reports in the order of the ranks."""
    directory = Path(plan.directory)
    directory.mkdir(parents=True)
    (directory / "plan.json").write_text(plan.to_json())
    env = dict(os.environ) | {"OMP_NUM_THREADS": "1"}
    children = [
        server.call(
            RUN,
            [str(directory / "plan.json"), str(rank)],
            env | {"ORCH_RANK": str(rank)},
            directory / f"log.{rank}",
        )
        for rank in range(plan.cell.ranks)
    ]
    try:
        codes = [child.wait(timeout) for child in children]
    finally:
        for child in children:
            child.kill()
    logs = "\n".join((directory / f"log.{rank}").read_text()[-3000:] for rank in range(len(codes)))
    assert codes == [0] * plan.cell.ranks, f"{plan.cell.label}: {codes}\n{logs}"
    return [
        json.loads((directory / f"report.{rank}.json").read_text())
        for rank in range(plan.cell.ranks)
    ]
