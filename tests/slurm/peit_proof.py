"""A down-scaled grid of the second study on real Super-NaturalInstructions and a real Slurm.

    scripts/proof peit [DATA]        # as root; DATA: tasks/ and splits/default/, about half an hour

24 jobs: four ways to tune a small T5, two learning rates, three seeds; training, dev, test on
unseen tasks, and the traditional test. All nodes are taken away again and again. One `orch submit`
and one `orch watch`, no command after; then every cell of the tables has three seeds, every result
is exact, and two of them are compared with uninterrupted runs, bit by bit.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from jobs.contract.paths import StateDir
from jobs.spec import JobSpec
from orchestrator.devcluster.config import ClusterOptions
from tests.slurm.private_cluster import GRACE, NODES, slurm, start_cluster, take_all_nodes
from tests.slurm.proof import ORCH, references
from worker.forkserver import ForkServer

MATRIX = """\
version: 1
name: peit-small
job_name: "{{method.name}}-{{method.rank}}-lr{{train.lr}}-s{{seed}}"
defaults:
  model:
    family: seq2seq
    config: {{num_layers: 2, d_model: 64, num_heads: 4, d_ff: 128, feed_forward_proj: gated-gelu}}
    tokenizer: {{vocab_size: 2000}}
  task:
    name: superni
    path: {data}
    superni: {{per_task: 4, eval_per_task: 2, traditional_test: true}}
    max_length: 160
    max_new_tokens: 6
  train:
    steps: 30
    global_batch: 8
    warmup_ratio: 0.1
    evaluate_every_steps: 15
    best_metric: rougeL
derive:
  method.alpha: {{formula: method.rank, when: {{method.name: lora}}}}
matrix:
  - grid:
      method:
        - {{name: lora, rank: 4}}
        - {{name: lora, rank: 16}}
        - {{name: adapter, rank: 8}}
        - {{name: full}}
      train.lr: [1e-3, 1e-2]
seeds: [42, 127, 894]
resources: {{memory_gb: 1, time_limit_minutes: 30}}
save: {{every_steps: 10}}
grace_seconds: 15
"""
SIZES = "method.name,method.rank"
BY_SIZE = ("--rows", SIZES, "--columns", "train.lr", "--metric")
OF_CATEGORIES = ("--where", "train.lr=0.01", "--rows", "metric", "--columns", SIZES)
TABLES = (
    (*BY_SIZE, "test.rougeL"),
    (*BY_SIZE, "traditional.rougeL"),
    (*OF_CATEGORIES, "--metric", "test.category.*.rougeL"),
)
JOBS, COMPARED, AWAY_SECONDS, BETWEEN_SECONDS = 24, 2, 15, 100


def collection(data: Path, directory: Path) -> Path:
    """Lay out lists of the tasks that are there: 28 to train on, 2 for dev, the rest unseen."""
    lists = directory / "splits" / "default"
    lists.mkdir(parents=True)
    (directory / "tasks").symlink_to(data / "tasks")
    train = (data / "splits/default/train_tasks.subset.txt").read_text().split()
    test = (data / "splits/default/test_tasks.subset.txt").read_text().split()
    for name, tasks in (("train", train[:-2]), ("dev", train[-2:]), ("test", test)):
        (lists / f"{name}_tasks.txt").write_text("\n".join(tasks) + "\n")
    return directory


class Grid:
    """The matrix in a state directory of its own."""

    def __init__(self, root: Path, data: Path) -> None:
        self.root, self.state = root, StateDir(root / "orch")
        self.matrix = root / "peit-small.yaml"
        self.matrix.write_text(MATRIX.format(data=collection(data, root / "superni")))
        site = root / "site.yaml"
        site.write_text("partition: low\nrank_timeout_seconds: 300\n")
        site.chmod(0o600)
        self.environment = {
            **os.environ,
            "ORCH_HOME": str(self.state.path),
            "ORCH_SITE": str(site),
            "HF_HUB_OFFLINE": "1",
        }

    def orch(self, *words: str) -> str:
        """Run a verb; return what it printed."""
        done = subprocess.run(
            [str(ORCH), *words],
            capture_output=True,
            text=True,
            timeout=300,
            env=self.environment,
            cwd=self.root,
        )
        assert done.returncode == 0, f"orch {words}: {done.stdout}{done.stderr}"
        return done.stdout

    def rows(self, verb: str) -> list[dict[str, Any]]:
        """Return the jobs of a verb's JSON."""
        found: list[dict[str, Any]] = json.loads(self.orch(verb, "--json"))["jobs"]
        return found

    def specs(self) -> tuple[JobSpec, ...]:
        """Return the jobs as submitted."""
        paths = sorted(self.state.jobs.glob("*/spec.json"))
        return tuple(JobSpec.model_validate_json(path.read_bytes()) for path in paths)

    def results(self) -> int:
        """Return how many jobs have a result."""
        return sum(1 for _ in self.state.jobs.glob("*/result.json"))

    def run(self) -> tuple[float, int]:
        """Submit, watch, take the nodes away; return seconds and how often they were taken."""
        started, taken = time.monotonic(), 0
        self.orch("submit", str(self.matrix), "--backend", "slurm", "--no-watch")
        with (self.root / "watch.log").open("wb") as log:
            watcher = subprocess.Popen(
                [str(ORCH), "watch", "--until-idle"],
                stdout=log,
                stderr=log,
                env=self.environment,
                cwd=self.root,
            )
        try:
            while not _ended_within(watcher, BETWEEN_SECONDS):
                assert time.monotonic() - started < 5400, self.orch("status")
                if self.results() < JOBS - 4:
                    take_all_nodes(AWAY_SECONDS)
                    taken += 1
        finally:
            if watcher.poll() is None:
                watcher.terminate()
                watcher.wait(30)
        return time.monotonic() - started, taken

    def check(self, server: ForkServer) -> None:
        """Raise AssertionError unless everything is there and exact."""
        rows = self.rows("results")
        assert len(rows) == JOBS
        for row in rows:
            assert row["state"] == "COMPLETED", row
            assert row["exact"], row
            assert {"dev", "test", "traditional"} <= set(row["metrics"]), row["name"]
        known = {row["id"]: row for row in rows}
        # those that were interrupted most often
        order = sorted(self.specs(), key=lambda spec: -known[spec.id]["attempts"])[:COMPARED]
        for job, (weights, test) in references(tuple(order), self.root / "alone", server).items():
            assert known[job]["weights_digest"] == weights, known[job]["name"]
            assert known[job]["metrics"]["test"] == test, known[job]["name"]


def _ended_within(process: subprocess.Popen[bytes], seconds: float) -> bool:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def main(words: list[str]) -> int:
    """Run the grid on a private cluster; print its tables as Markdown."""
    data = Path(words[0] if words else "../shared/data/superni").resolve()
    if not (data / "splits/default/train_tasks.subset.txt").exists():
        print(f"SKIPPED: no Super-NaturalInstructions in {data} (give its directory)")
        return 0
    cluster = start_cluster(ClusterOptions(nodes=NODES, grace=GRACE, kill_wait=5))
    if isinstance(cluster, str):
        print(f"no private Slurm: {cluster}", file=sys.stderr)
        return 1
    os.environ["SLURM_CONF"] = str(cluster.paths.slurm_conf)
    folder = Path(tempfile.mkdtemp(prefix="orch-peit-", dir="/var/tmp"))  # stays when it fails
    grid = Grid(folder, data)
    seconds, taken = grid.run()
    with ForkServer.start(env={"HF_HUB_OFFLINE": "1"}) as server:
        grid.check(server)
    rows = grid.rows("results")
    attempts = sorted(row["attempts"] for row in rows)
    preemptions = sum(row["preemptions"] for row in rows)
    version = slurm("sbatch", "--version").split()[1]
    print(
        f"{JOBS} jobs on Slurm {version}, all nodes taken {taken} times: {JOBS} results in"
        f" {seconds:.0f} s; {preemptions} preemptions, {attempts[0]} to {attempts[-1]} attempts,"
        f" all exact; {COMPARED} compared with uninterrupted runs: equal\n"
    )
    for table in TABLES:
        print(f"    orch results peit-small {' '.join(table)}\n")
        print(grid.orch("results", "peit-small", *table, "--markdown"))
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
