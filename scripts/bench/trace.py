"""The north star: how long a matrix takes on a hostile cluster when nobody touches it.

A matrix of stub ranks (real epochs, checkpoints, fence and results; a step is a sleep) on the
private Slurm: one `orch submit --no-watch`, one `orch watch --until-idle`, and no command after.
Meanwhile jobs in `high` take whole nodes, nodes lose power, and each allocation has a time limit:
a trace that is drawn from the seed before the start.

*Hands-off makespan ratio*: from the start of `orch submit` until the orchestrator has verified the
last result, over the ideal makespan under the same availability (`tests.slurm.availability`: the
same steps on the same nodes while they were there, perfectly packed, free to move, and with no cost
of starting, saving or restarting). A node is away from the moment in which the `high` job begins on
it until that ends; a lost one from the cut until its slurmd was started again. The time that a job
needs to clear a node, and all that Slurm, orch and the ranks need besides the steps, is charged.

*Replayed*: steps taken more than once. *Wasted share*: of the attempts' wall time (claim to last
sign of life), what was not a step's first time. *Unused share*: of the slot-seconds that were there
until the last result, what no step's first time was done in; the empty slots at the end are in it.
*Requests a job*: what clients asked of slurmctld (`sdiag`), those of `orch` and of its batch
scripts and sruns alike. Leaves with 1 when a result is missing or wrong, or the ratio above 1.15.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from durable.files import private_dir
from jobs.contract.paths import JobDir
from jobs.contract.records import EpochRecord, ExitRecord, ProgressRecord, read_record
from tests.slurm.audit import Audit, audit
from tests.slurm.availability import (
    Disturbance,
    Outage,
    Planned,
    ideal_makespan,
    plan,
    slot_seconds,
)
from tests.slurm.faults import Faults
from tests.slurm.private_cluster import NODES, clear, private_cluster, slurm
from tests.slurm.stub_matrix import StubMatrix

LIMIT = 1.15
NODE_GB = 3.6  # of a virtual node's 4,000 MB
# what daemons say of themselves, and our own look at the counters
NOT_ASKED = ("COMPLETE_", "STEP_COMPLETE", "STATS_INFO", "NODE_REGISTRATION")


@dataclass(frozen=True, kw_only=True)
class Options:
    """What may be chosen."""

    jobs: int
    steps: int
    seconds_per_step: float
    save_every: int
    per_node: int
    limit_minutes: int
    seed: int
    preemptions: int
    node_losses: int

    @property
    def work(self) -> float:
        """Seconds of steps that a job needs."""
        return self.steps * self.seconds_per_step


class Trace:
    """One run."""

    def __init__(self, root: Path, options: Options) -> None:
        cluster = private_cluster()
        if isinstance(cluster, str):
            raise SystemExit(cluster)
        os.environ["SLURM_CONF"] = str(cluster.paths.slurm_conf)
        self.root, self.options = private_dir(root), options
        self.matrix = StubMatrix(
            root,
            name="trace",
            jobs=options.jobs,
            steps=options.steps,
            minutes=options.limit_minutes,
            memory_gb=int(NODE_GB / options.per_node * 10) / 10,
            seconds_per_step=options.seconds_per_step,
            save_every=options.save_every,
        )
        self.random = Random(options.seed)
        self.faults = Faults(cluster, self.matrix.jobs(), self.random)
        slots = min(options.jobs, NODES * options.per_node)
        self.events = plan(
            self.random,
            preemptions=options.preemptions,
            node_losses=options.node_losses,
            horizon=options.jobs * options.work / slots,
            most_nodes=NODES // 2,
        )
        self.lost: list[Outage] = []
        self.taken = 0
        self.begin = self.published = self.verified = 0.0
        self.requests = 0
        self.wrong: list[str] = []

    def run(self) -> None:
        """Submit, watch, disturb, and wait for the watcher to leave."""
        slurm("sdiag", "--reset")
        self.begin = time.time()
        said = self.matrix.submit()
        if said.returncode != 0:
            raise SystemExit(said.stdout + said.stderr)
        watcher = self.matrix.watch("--until-idle")
        try:
            for event in self.events:
                _sleep_until(self.begin + event.at, watcher)
                if watcher.poll() is not None:
                    break
                self._disturb(event)
            watcher.wait(20 * self.options.jobs * self.options.work)
        finally:
            if watcher.poll() is None:
                watcher.terminate()
                watcher.wait(60)
        self.requests = _asked() - self.taken  # our own submissions of `high` jobs
        rows = self.matrix.rows()
        self.verified = max(float(row["state_since"]) for row in rows)
        self.published = max(
            (job.result.stat().st_mtime for job in self.matrix.jobs() if job.result.exists()),
            default=self.verified,
        )
        self.wrong = [f"{row['id']}: {row['state']}" for row in rows if row["state"] != "COMPLETED"]
        self.faults.heal()

    def outages(self) -> list[Outage]:
        """Return when which node was not there."""
        found = list(self.lost)
        for file in sorted(self.root.glob("high-*")):
            words = file.read_text().split()
            if not words:
                continue  # it never began
            end = float(words[2]) if len(words) > 2 else self.verified
            names = slurm("scontrol", "show", "hostnames", words[1]).split()
            found += [Outage(node=name, begin=float(words[0]), end=end) for name in names]
        return found

    def _disturb(self, event: Planned) -> None:
        """Let one event happen."""
        if event.kind is Disturbance.PREEMPTION:
            note = self.root / f"high-{self.taken}"
            script = (
                f'echo "$(date +%s.%N) $SLURM_JOB_NODELIST" > {note}; '
                f"sleep {event.seconds:.1f}; date +%s.%N >> {note}"
            )
            slurm(
                *("sbatch", "--partition=high", f"--nodes={event.nodes}", "--exclusive"),
                *("--no-requeue", "--output=/dev/null", f"--wrap={script}"),
            )
            self.taken += 1
            return
        node = f"n{self.random.randint(1, NODES)}"
        begin = time.time()
        self.faults.cut_power(node, event.seconds)
        self.lost.append(Outage(node=node, begin=begin, end=begin + event.seconds))


def _sleep_until(moment: float, watcher: subprocess.Popen[bytes]) -> None:
    while time.time() < moment and watcher.poll() is None:
        time.sleep(0.2)


def _asked() -> int:
    found = re.findall(r"REQUEST_(\w+)\s+\(\s*\d+\)\s+count:(\d+)", slurm("sdiag"))
    return sum(int(count) for name, count in found if not name.startswith(NOT_ASKED))


def attempt_seconds(jobs: Iterable[JobDir]) -> float:
    """Return the wall time of all attempts, from claim to last sign of life."""
    total = 0.0
    for job in jobs:
        for path in sorted(job.epochs.glob("*.json")):
            claim = read_record(path, EpochRecord)
            if claim is None:
                continue
            attempt = job.attempt(claim.epoch)
            last = read_record(attempt.exit_record(0), ExitRecord) or read_record(
                attempt.progress, ProgressRecord
            )
            total += max(0.0, last.written_at - claim.started_at) if last else 0.0
    return total


def report(trace: Trace) -> tuple[str, bool]:
    """Return the figures as Markdown, and whether the promise was kept."""
    options, outages = trace.options, trace.outages()
    found: Audit = audit(trace.matrix.jobs(), steps=options.steps)
    ideal = ideal_makespan(
        outages,
        nodes=NODES,
        per_node=options.per_node,
        begin=trace.begin,
        jobs=options.jobs,
        work=options.work,
    )
    there = slot_seconds(
        outages,
        nodes=NODES,
        per_node=options.per_node,
        begin=trace.begin,
        end=trace.verified,
        most=options.jobs,
    )
    needed = options.jobs * options.work
    took, wall = trace.verified - trace.begin, attempt_seconds(trace.matrix.jobs())
    ratio = took / ideal
    figures = {
        "ratio": f"{ratio:.3f}",
        "makespan": f"{took:.0f} s",
        "last result published": f"{trace.published - trace.begin:.0f} s",
        "ideal": f"{ideal:.0f} s",
        "results": f"{found.results} of {found.jobs}",
        "attempts": found.attempts,
        "replayed steps": f"{found.replayed} of {found.needed}",
        "wasted share": f"{1 - needed / max(wall, needed):.1%}",
        "unused share": f"{1 - needed / there:.1%}",
        "requests a job": f"{trace.requests / found.jobs:.1f}",
        "files a job": f"{found.files / found.jobs:.1f}",
    }
    away = sum(o.end - o.begin for o in outages)
    broken = [*found.violations, *trace.wrong]
    setting = (
        f"seed {options.seed}, {options.jobs} jobs of {options.work:g} s ({options.steps} steps), "
        f"{options.per_node} a node on {NODES} nodes, time limit {options.limit_minutes} min; "
        f"{trace.taken} preemptions, {len(trace.lost)} node losses: {away:.0f} node-seconds away"
    )
    lines = [
        setting,
        "",
        f"| {' | '.join(figures)} |",
        "|---" * len(figures) + "|",
        f"| {' | '.join(map(str, figures.values()))} |",
        *(f"VIOLATION {line}" for line in broken),
    ]
    return "\n".join(lines), not broken and ratio <= LIMIT


def main(words: list[str]) -> int:
    """Run one trace; print its table; 1 when the promise was not kept."""
    parser = argparse.ArgumentParser(prog="scripts/bench/trace", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--jobs", type=int, default=8)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--seconds-per-step", type=float, default=3.0)
    parser.add_argument("--save-every", type=int, default=10, help="steps between checkpoints")
    parser.add_argument("--per-node", type=int, default=1, help="jobs that a node has room for")
    parser.add_argument("--limit-minutes", type=int, default=30, help="of each allocation")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--preemptions", type=int, default=3)
    parser.add_argument("--node-losses", type=int, default=1)
    parser.add_argument("--keep", action="store_true", help="leave the state directory behind")
    given = vars(parser.parse_args(words))
    keep = given.pop("keep")
    root = Path(tempfile.mkdtemp(prefix="orch-trace-"))
    trace = Trace(root, Options(**given))
    try:
        trace.run()
        text, kept = report(trace)
    finally:
        clear()
    sys.stdout.write(text + "\n")
    if keep or not kept:
        sys.stdout.write(f"state directory: {root}\n")
    else:
        shutil.rmtree(root)
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
