"""A few cells in one allocation under the verbs, on whichever scheduler."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jobs.contract.paths import JobDir, SubmissionDir
from jobs.contract.records import EpochRecord, ResultRecord, TasksRecord, read_record
from tests.contract.command_verbs import Desktop

# Each cell waits at step 5 of its first attempt for what the test wants to see; `free` lets go.
SCRIPT = """\
import json, os, time
from pathlib import Path
from orch_job import orch_attempt

attempt = orch_attempt()
done = 0
if attempt.resume_dir:
    done = json.loads((attempt.resume_dir / "state.json").read_text())["done"]
seed = int(os.environ["ORCH_SEED"])
while done < 10:
    done += 1
    attempt.progress(done, 10, loss=1.0 / done)
    while done in (5, 6) and not (Path(FREE) / str(seed)).exists() and not attempt.should_stop():
        time.sleep(0.02)
    if (Path(FREE) / f"fail-{seed}").exists():
        raise SystemExit("as asked")
    if attempt.should_stop():
        (attempt.save_path() / "state.json").write_text(json.dumps({"done": done}))
        attempt.commit(done)
        attempt.leave()
attempt.result({"done": done, "seed": seed}, exact=True)
"""
MATRIX = """\
version: 1
name: packed
defaults:
  command: {argv: [python, job.py], code: [job.py]}
  engine: {ranks: 1}
seeds: [1, 2, 3]
resources: {memory_gb: 0.2, time_limit_minutes: 10, pack: 3}
grace_seconds: 10
"""


class Pack(Desktop):
    """A matrix of a few cells that share one allocation."""

    def __init__(self, root: Path, *, backend: str, cells: int = 3, **env: str) -> None:
        super().__init__(root, backend=backend, **env)
        self.free = root / "free"
        self.free.mkdir()
        (root / "job.py").write_text(SCRIPT.replace("FREE", repr(str(self.free))))
        seeds = list(range(1, cells + 1))
        text = MATRIX.replace("[1, 2, 3]", str(seeds)).replace("pack: 3", f"pack: {cells}")
        (root / "m.yaml").write_text(text)

    def let_go(self, *words: object) -> None:
        """Let cells go on: a seed, or `fail-` and a seed first."""
        for word in words:
            (self.free / str(word)).touch()

    def cells(self) -> list[dict[str, Any]]:
        """Return the rows in the order of their seeds, after a tick."""
        return sorted(self.rows(), key=lambda row: int(self.seed(row["id"])))

    def seed(self, job: str) -> int:
        """Return a job's seed."""
        return int(json.loads(self.job(job).spec.read_bytes())["semantic"]["seed"])

    def wait(
        self, condition: Callable[[list[dict[str, Any]]], bool], what: str
    ) -> list[dict[str, Any]]:
        """Tick until the cells are so; return their rows."""
        deadline = time.monotonic() + 150
        while not condition(rows := self.cells()):
            assert time.monotonic() < deadline, f"waited too long for {what}: {rows}"
            time.sleep(0.3)
        return rows

    def all_at_five(self) -> list[dict[str, Any]]:
        """Wait until every cell is in the middle of its work, at the same time."""
        return self.wait(lambda rows: {row["step"] for row in rows} == {5}, "step 5 of all")

    def states(self) -> list[str]:
        """Return the cells' states, after a tick."""
        return [row["state"] for row in self.cells()]

    def submissions(self) -> list[SubmissionDir]:
        """Return the submissions, oldest first."""
        found = [SubmissionDir(p) for p in (self.root / "orch" / "submissions").iterdir()]
        return sorted(found, key=lambda one: one.tasks.stat().st_mtime_ns)

    def tasks(self) -> list[TasksRecord]:
        """Return what each submission handed over."""
        records = [read_record(one.tasks, TasksRecord) for one in self.submissions()]
        return [record for record in records if record is not None]


def claims(job: JobDir) -> list[EpochRecord]:
    """Return a job's claims, oldest first."""
    found = [read_record(path, EpochRecord) for path in sorted(job.epochs.glob("*.json"))]
    return [record for record in found if record is not None]


def metrics(job: JobDir) -> dict[str, float]:
    """Return a job's test metrics."""
    result = read_record(job.result, ResultRecord)
    assert result is not None
    return result.metrics["test"]
