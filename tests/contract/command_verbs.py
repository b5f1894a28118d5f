"""`orch` as a person uses it on a command job: submit, preempt, edit meanwhile, see the result."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jobs.contract.paths import JobDir, StateDir
from jobs.contract.records import ResultRecord, read_record

ORCH = Path(sys.executable).with_name("orch")
SCRIPT = """\
import json, time
from orch_job import orch_attempt

attempt = orch_attempt()
done = 0
if attempt.resume_dir:
    done = json.loads((attempt.resume_dir / "state.json").read_text())["done"]
while done < 10:
    done += 1
    attempt.progress(done, 10, loss=1.0 / done)
    while done == 5 and attempt.epoch == 1 and not attempt.should_stop():
        time.sleep(0.02)
    if attempt.should_stop():
        (attempt.save_path() / "state.json").write_text(json.dumps({"done": done}))
        attempt.commit(done)
        attempt.leave()
attempt.result({"done": done, "code": VERSION}, exact=True)
"""
MATRIX = """\
version: 1
name: cmd
defaults:
  command: {argv: [python, job.py], code: [job.py]}
  engine: {ranks: 1}
resources: {memory_gb: 0.2, time_limit_minutes: 10}
grace_seconds: 10
"""


class Desktop:
    """A person's directory with a matrix and its script."""

    def __init__(self, root: Path, *, backend: str, **env: str) -> None:
        self.root, self.backend = root, backend
        self.env = {**os.environ, "ORCH_HOME": str(root / "orch"), **env}
        root.mkdir(parents=True, exist_ok=True)
        self.write_script(1)
        (root / "m.yaml").write_text(MATRIX)

    def write_script(self, version: int) -> None:
        """Edit the script."""
        (self.root / "job.py").write_text(SCRIPT.replace("VERSION", str(version)))

    def orch(self, *words: str) -> str:
        """Run a verb; return what it printed."""
        done = subprocess.run(
            [str(ORCH), *words],
            capture_output=True,
            text=True,
            timeout=180,
            env=self.env,
            cwd=self.root,
        )
        assert done.returncode == 0, f"orch {words}: {done.stdout}{done.stderr}"
        return done.stdout

    def submit(self) -> None:
        """Submit the matrix; nobody is left behind to watch."""
        self.orch("submit", "m.yaml", "--backend", self.backend, "--no-watch")

    def rows(self) -> list[dict[str, Any]]:
        """Return what `orch status` says, after a tick."""
        self.orch("tick")
        rows: list[dict[str, Any]] = json.loads(self.orch("status", "--json"))["jobs"]
        return rows

    def until(self, condition: Callable[[dict[str, Any]], bool], what: str) -> dict[str, Any]:
        """Tick until the first job is so; return its row."""
        deadline = time.monotonic() + 120
        while not condition(row := self.rows()[0]):
            assert time.monotonic() < deadline, f"waited too long for {what}: {row}"
            time.sleep(0.3)
        return row

    def job(self, job_id: str) -> JobDir:
        """Return a job's directory."""
        return StateDir(self.root / "orch").job(job_id)


def preempt_edit_and_finish(desk: Desktop) -> JobDir:
    """Submit, preempt once with `orch preempt`, edit the script, and see the right result."""
    desk.submit()
    row = desk.until(lambda row: row["step"] == 5, "step 5")
    assert row["total_steps"] == 10
    desk.orch("preempt", row["id"])
    desk.write_script(2)
    row = desk.until(lambda row: row["state"] == "COMPLETED", "the result")

    job = desk.job(row["id"])
    result = read_record(job.result, ResultRecord)
    assert result is not None
    assert result.metrics == {"test": {"done": 10.0, "code": 1.0}}
    assert (result.exact, result.resumed_steps, result.steps) == (True, (5,), 10)
    assert (row["attempts"], row["preemptions"], row["lost_steps"]) == (2, 1, 0)
    desk.submit()  # the edited script is another job
    assert len(desk.rows()) == 2
    return job
