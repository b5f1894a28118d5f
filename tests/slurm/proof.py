"""The whole of `orch` on a real Slurm: preempted jobs end with the weights of uninterrupted ones.

    .venv/bin/python -m tests.slurm.proof [SCENARIO…]      # as root; all: about an hour

Each scenario submits the same four jobs of two ranks with `orch submit`, takes all nodes away with
a job in `high` while they train, and compares the results with local, uninterrupted runs. Three of
them are tests, too (tests/slurm/test_proof.py).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from durable.processes import ProcessIdentity
from jobs.contract.paths import JobDir, StateDir
from jobs.contract.records import EpochRecord, ExitRecord, read_record
from jobs.spec import JobSpec
from tests.e2e.harness import Bench
from tests.slurm.private_cluster import clear, slurm, take_all_nodes, until
from worker.forkserver import ForkServer

ORCH = Path(sys.executable).with_name("orch")
MATRIX = """\
version: 1
name: proof
defaults:
  model: {family: decoder, config: {n_layer: 2, n_embd: 64, n_head: 4, resid_pdrop: 0.1}}
  method: {name: lora, rank: 8, alpha: 32, targets: [c_attn]}
  task: {name: tsv, path: "package:quickstart"}
  train: {steps: 60, global_batch: 8, micro_batch: 2, lr: 1e-3, evaluate_every_steps: 30}
  engine: {ranks: 2, zero_stage: 2, precision: fp32, threads_per_rank: 1}
matrix:
  train.lr: [1e-3, 3e-3]
seeds: [1, 2]
resources: {memory_gb: 1, time_limit_minutes: 30}
save: {every_steps: 30}
grace_seconds: 10
"""
# However fast the machine is, every job is in the middle of its training when the preemption
# comes: rank 0 stops itself after a random step, once, and Slurm's own SIGCONT lets it go on.
STOP = """\
rank_timeout_seconds: 300
setup:
  - 'orch_step=$((5 + RANDOM % 45))'
  - 'export ORCH_FAULT="loop.after_step[rank=0]:stop@$orch_step"'
  - '[ "${SLURM_RESTART_COUNT:-0}" = 0 ] || unset ORCH_FAULT'
"""


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """What the site does, and whether anybody watches."""

    partition: str = "low"
    watched: bool = False
    preempt: bool = True
    settings: tuple[str, ...] = ()  # --set KEY=VALUE
    limit_minutes: int = 30
    seeds: str = "[1, 2]"
    nodes: int | None = None  # resources.nodes
    drained: int = 0  # nodes that nobody gets
    seconds: float = 900  # until the results are there


# Slurm's own default. What asks for the next attempt after a time limit runs within it, and eight
# ranks on two cores leave it little of them.
KILL_WAIT = 30

# Trainings of some three minutes each, in allocations of one.
LIMIT = Scenario(
    watched=True,
    preempt=False,
    settings=("train.steps=1200",),
    limit_minutes=1,
    seconds=1800,
)
SCENARIOS = {
    "watched": Scenario(watched=True),
    "unwatched": Scenario(),
    "cancel": Scenario(partition="lowcancel"),
    "nograce": Scenario(partition="lownograce"),
    "limit": LIMIT,
    # Slurm holds a requeued job back for two minutes, so one node, two jobs at once, is enough for
    # four; four starts at once on two cores would take most of each minute.
    "limit-unwatched": replace(LIMIT, watched=False, drained=3, seconds=3600),
}


@dataclass
class Figures:
    """What a scenario measured, in seconds."""

    notice_to_exit: list[float] = field(default_factory=list)  # SIGTERM to a rank's last word
    notice_to_free: float | None = None  # high submitted to high running on all nodes
    dead: list[float] = field(default_factory=list)  # nodes free again to restarted
    total: float = 0.0

    def __str__(self) -> str:
        exits = f"SIGTERM to exit at most {max(self.notice_to_exit, default=0):.1f} s"
        free = "" if self.notice_to_free is None else f", nodes free {self.notice_to_free:.1f} s"
        dead = f", restarted {max(self.dead):.0f} s after they were free" if self.dead else ""
        return f"{exits}{free}{dead}, all done in {self.total:.0f} s"


class Proof:
    """One scenario in a state directory of its own."""

    def __init__(self, root: Path, scenario: Scenario) -> None:
        self.root, self.scenario = root, scenario
        self.state = StateDir(root / "orch")
        root.mkdir(parents=True, exist_ok=True)
        text = MATRIX.replace("seeds: [1, 2]", f"seeds: {scenario.seeds}")
        text = text.replace("limit_minutes: 30", f"limit_minutes: {scenario.limit_minutes}")
        if scenario.nodes:
            text = text.replace("resources: {", f"resources: {{nodes: {scenario.nodes}, ")
        self.matrix = root / "proof.yaml"
        self.matrix.write_text(text)
        self.site = root / "site.yaml"
        self.site.write_text(f"partition: {scenario.partition}\n{STOP if scenario.preempt else ''}")
        self.site.chmod(0o600)
        self.figures = Figures()

    def specs(self) -> tuple[JobSpec, ...]:
        """Return the jobs as submitted."""
        return tuple(
            JobSpec.model_validate_json(path.read_bytes())
            for path in sorted(self.state.jobs.glob("*/spec.json"))
        )

    def jobs(self) -> list[JobDir]:
        """Return the job directories."""
        return [self.state.job(spec.id) for spec in self.specs()]

    def orch(self, *words: str) -> Any:
        """Run a verb; return its JSON document."""
        done = subprocess.run(
            [str(ORCH), *words, "--json"],
            capture_output=True,
            text=True,
            timeout=120,
            env=self.environment(),
            cwd=self.root,
        )
        assert done.returncode == 0, f"orch {words}: {done.stdout}{done.stderr}"
        return json.loads(done.stdout)

    def environment(self) -> dict[str, str]:
        """Return what the verbs run with."""
        return {
            **os.environ,
            "ORCH_HOME": str(self.state.path),
            "ORCH_SITE": str(self.site),
            "HF_HUB_OFFLINE": "1",
        }

    @contextmanager
    def watcher(self) -> Iterator[None]:
        """Keep `orch watch` alive, if the scenario has one."""
        if not self.scenario.watched:
            yield
            return
        with (self.root / "watch.log").open("wb") as log:
            process = subprocess.Popen(
                [str(ORCH), "watch"],
                stdout=log,
                stderr=log,
                env=self.environment(),
                cwd=self.root,
            )
        try:
            yield
            assert process.poll() is None, (self.root / "watch.log").read_text()
        finally:
            process.terminate()
            process.wait(30)

    def submit(self) -> None:
        """Submit the matrix and leave nobody behind."""
        settings = [word for text in self.scenario.settings for word in ("--set", text)]
        self.orch("submit", str(self.matrix), "--backend", "slurm", "--no-watch", *settings)

    def run(self, *beside: Proof) -> None:
        """Submit, preempt, wait for all results; `beside`: others that are submitted already."""
        started = time.monotonic()
        self.submit()
        with self.watcher():
            if self.scenario.preempt:
                self.preempt(*beside)
            for proof in (self, *beside):
                proof.wait_done()
                proof.figures.total = time.monotonic() - started

    def wait_done(self) -> None:
        """Wait for all results; collect how long each attempt took to leave."""
        until(self.done, "all results", seconds=self.scenario.seconds, every=1.0)
        self.figures.notice_to_exit = [
            record.seconds_from_notice
            for job in self.jobs()
            for path in job.attempts.glob("*/exit.r*.json")
            if (record := read_record(path, ExitRecord)) and record.seconds_from_notice is not None
        ]

    def preempt(self, *beside: Proof) -> None:
        """Take all nodes for a while once every job trains."""
        every = [job for proof in (self, *beside) for job in proof.jobs()]
        until(lambda: all(map(training, every)), "all jobs to train", seconds=300)
        asked = time.monotonic()
        high = take_all_nodes(15)
        until(lambda: state_of(high) == "RUNNING", "the high job to have all nodes", every=0.05)
        self.figures.notice_to_free = time.monotonic() - asked
        until(lambda: state_of(high) == "", "the high job to end", seconds=60)
        until(lambda: ended_at(high), "its end to be recorded")
        until(self.restarted, "all jobs to run again", seconds=300, every=0.5)
        ids = ",".join(sorted({row["scheduler_id"].split("_")[0] for row in self.rows()}))
        until(lambda: len(starts(ids)) == len(self.jobs()), "accounting to know the new starts")
        self.figures.dead = [(start - ended_at(high)).total_seconds() for start in starts(ids)]

    def rows(self) -> list[dict[str, Any]]:
        """Return what `orch status` says."""
        rows: list[dict[str, Any]] = self.orch("status")["jobs"]
        return rows

    def restarted(self) -> bool:
        """Return whether every job has a second attempt."""
        return all(job.epoch(2).exists() for job in self.jobs())

    def done(self) -> bool:
        """Return whether every job has a result; fails early when a worker failed.

        Reads files only: `orch status` would look at Slurm and help where nobody shall help.
        """
        for job in self.jobs():
            for path in job.attempts.glob("*/exit.r*.json"):
                record = read_record(path, ExitRecord)
                assert record is None or record.error is None, record.error
        return all(job.result.exists() for job in self.jobs())

    def check(self, reference: Mapping[str, tuple[str, dict[str, float]]]) -> None:
        """Compare with the uninterrupted runs, and see that `orch` tells the truth."""
        until(
            lambda: all(row["state"] == "COMPLETED" for row in self.rows()),
            "orch status to say COMPLETED",
            seconds=90,
            every=2.0,
        )
        rows = self.rows()
        assert len(rows) == len(reference)
        for row in rows:
            assert row["attempts"] >= 2
            assert row["lost_steps"] == 0, row
            if self.scenario.preempt:
                assert row["preemptions"] >= 1
                assert row["attempts"] == 2
        for result in self.orch("results")["jobs"]:
            weights, test = reference[result["id"]]
            assert result["weights_digest"] == weights, result["name"]
            assert result["metrics"]["test"] == test
            assert result["exact"] is True
        for job in self.jobs():
            steps = [json.loads(line)["step"] for line in job.metrics.read_text().splitlines()]
            assert steps == list(range(1, steps[-1] + 1))  # every step, once


@contextmanager
def drained(count: int) -> Iterator[None]:
    """Keep so many nodes from everybody for a while."""
    if not count:
        yield
        return
    nodes = ",".join(
        sorted(set(slurm("sinfo", "--noheader", "-N", "--format=%N").split()))[-count:]
    )
    slurm("scontrol", "update", f"NodeName={nodes}", "State=DRAIN", "Reason=proof")
    try:
        yield
    finally:
        slurm("scontrol", "update", f"NodeName={nodes}", "State=RESUME")


def training(job: JobDir) -> bool:
    """Return whether rank 0 of the job's newest attempt has stopped itself in its training."""
    claims = sorted(job.epochs.glob("[0-9]*.json"))  # not one that is being written
    record = read_record(claims[-1], EpochRecord) if claims else None
    if record is None:
        return False
    return ProcessIdentity(record.boot_id, record.pid, record.pid_start).stopped()


def state_of(job_id: str) -> str:
    """Return a job's state word, nothing when it is over."""
    return slurm("squeue", "--noheader", "--jobs", job_id, "--format=%T").strip()


def ended_at(job_id: str) -> datetime | None:
    """Return when a job ended, as accounting has it."""
    said = slurm("sacct", "-X", "-n", "-P", "-j", job_id, "-o", "End").strip()
    return None if said in ("", "Unknown") else datetime.fromisoformat(said)


def starts(ids: str) -> list[datetime]:
    """Return the second start of each task, as accounting has it."""
    lines = slurm("sacct", "-X", "-n", "-P", "-D", "-j", ids, "-o", "JobID,Start").splitlines()
    times: dict[str, list[datetime]] = {}
    for line in lines:
        task, _, start = line.partition("|")
        if start != "Unknown":
            times.setdefault(task, []).append(datetime.fromisoformat(start))
    return [sorted(found)[1] for found in times.values() if len(found) > 1]


def references(
    specs: tuple[JobSpec, ...], root: Path, server: ForkServer
) -> dict[str, tuple[str, dict[str, float]]]:
    """Run every job locally, uninterrupted; return weights digest and test metrics by id."""
    found = {}
    for spec in specs:
        unlimited = spec.run.resources.model_copy(update={"time_limit_minutes": 600})
        run = spec.run.model_copy(update={"resources": unlimited})
        bench = Bench(root / spec.id, server, spec.semantic, run, rank_timeout=60.0)
        launched = bench.start()
        try:
            ended = launched.wait(600)
        finally:
            launched.end()
        assert ended.exit_code == 0, ended.log()
        assert bench.spec.id == spec.id
        found[spec.id] = (bench.result.weights_digest, bench.result.metrics["test"])
    return found


def main(words: list[str]) -> int:
    """Run scenarios on a private cluster; print a line for each."""
    from orchestrator.devcluster.config import ClusterOptions
    from tests.slurm.private_cluster import GRACE, NODES, start_cluster

    cluster = start_cluster(ClusterOptions(nodes=NODES, grace=GRACE, kill_wait=KILL_WAIT))
    if isinstance(cluster, str):
        print(f"no private Slurm: {cluster}", file=sys.stderr)
        return 1
    os.environ["SLURM_CONF"] = str(cluster.paths.slurm_conf)
    print(
        f"Slurm {slurm('sbatch', '--version').split()[1]}, GraceTime={GRACE} KillWait={KILL_WAIT}"
    )
    folder = Path(tempfile.mkdtemp(prefix="orch-proof-"))  # stays for a look when one fails
    with ForkServer.start(env={"HF_HUB_OFFLINE": "1"}) as server:
        known: dict[str, tuple[str, dict[str, float]]] = {}
        for name in words or list(SCENARIOS):
            proof = Proof(folder / name, SCENARIOS[name])
            try:
                with drained(proof.scenario.drained):
                    proof.run()
                new = tuple(spec for spec in proof.specs() if spec.id not in known)
                known.update(references(new, folder / "reference", server))
                proof.check({spec.id: known[spec.id] for spec in proof.specs()})
            except AssertionError:
                print(f"{name} failed:", *map(json.dumps, proof.rows()), sep="\n", file=sys.stderr)
                print(slurm("squeue", "--format=%A %a %T %r %M %l"), file=sys.stderr)
                print(f"kept: {folder}", file=sys.stderr)
                raise
            finally:
                clear()
            attempts = [row["attempts"] for row in proof.rows()]
            print(
                f"{name}: {len(attempts)} jobs, attempts {attempts}, equal weights; {proof.figures}"
            )
            sys.stdout.flush()
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
