"""One run of the orchestrator on Slurm, for tests that kill it.

    python -m tests.slurm.orchestrator_child HOME VERB

Submits the stub jobs of HOME and watches until idle; VERB `cancel` cancels them once they run,
`watch` submits nothing: a matrix that is submitted again starts its cancelled jobs again.
"""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path

from jobs.spec import JobSpec
from orchestrator.facts import Patience
from orchestrator.service import Service
from tests.contract.stub import make_matrix
from tests.slurm.private_cluster import StubJobs, until


def main(home: Path, verb: str) -> int:
    """Do everything once; print the rows as JSON."""
    jobs = StubJobs(home)
    # nothing here hides a submission for longer than this
    jobs.scheduler.patience = Patience(
        absent_answers=2, absent_seconds=3.0, find_answers=2, quiet_seconds=3.0
    )
    specs = [JobSpec.model_validate_json(line) for line in (home / "specs.jsonl").open("rb")]
    service = Service.open(home, scheduler=jobs.scheduler, tick_seconds=0.5)
    if verb != "watch":
        service.submit([make_matrix(specs)])
    if verb == "cancel":
        until(lambda: all(jobs.starts(spec) for spec in specs), "all jobs to run")
        service.tick()
        service.cancel("stub")
    service.watch(until_idle=True, on_tick=lambda report: None, stop=threading.Event())
    rows = service.rows()
    print(json.dumps([{"id": r.id, "state": r.state, "attempts": r.attempts} for r in rows]))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
