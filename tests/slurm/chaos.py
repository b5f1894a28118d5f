"""A soak: short jobs on the private Slurm while everything around them fails at random.

    scripts/chaos [--jobs 100] [--minutes 10] [--seed N]         # as root

Preemptions, ranks killed and stopped, slurmds killed under running jobs and restarted (the payload
lives on), slurmctld killed and stopped, slurmdbd killed, the orchestrator killed with -9, for some
minutes; then the cluster is left alone until every job is over. The jobs are stub ranks with real
epochs, checkpoints and results; what happened is read from their own testimony (audit). Leaves with
1 when a promise was broken: a job without result, two results, a result that is not that of an
uninterrupted run, a checkpoint or result of an older epoch, a status that says otherwise.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from random import Random

from durable.files import private_dir
from tests.slurm.audit import Audit, audit
from tests.slurm.faults import Faults
from tests.slurm.private_cluster import clear, private_cluster
from tests.slurm.stub_matrix import StubMatrix

STEPS, SAVE_EVERY = 40, 10
DRAIN_SECONDS = 900.0


@dataclass(kw_only=True)
class Options:
    """What may be chosen."""

    jobs: int = 100
    minutes: float = 10.0
    seed: int = 1
    seconds_per_step: float = 0.0  # 0: as fits jobs and minutes


class Soak:
    """One run."""

    def __init__(self, root: Path, options: Options) -> None:
        cluster = private_cluster()
        assert not isinstance(cluster, str), cluster
        os.environ["SLURM_CONF"] = str(cluster.paths.slurm_conf)
        self.options = options
        # 16 tasks run at once; the faults shall last until most jobs have had some of them
        step = options.seconds_per_step or options.minutes * 60 * 16 / options.jobs / STEPS * 0.7
        self.matrix = StubMatrix(
            private_dir(root),
            name="chaos",
            jobs=options.jobs,
            steps=STEPS,
            seconds_per_step=min(step, 3.0),
            save_every=SAVE_EVERY,
        )
        self.random = Random(options.seed)
        self.faults = Faults(cluster, self.matrix.jobs(), self.random)
        self.done: Counter[str] = Counter()
        self.watcher: subprocess.Popen[bytes] | None = None
        self.restart_at = 0.0
        self.seconds = 0.0

    def run(self) -> None:
        """Submit, torment, leave alone."""
        started = time.monotonic()
        said = self.matrix.submit()
        assert said.returncode == 0, said.stdout + said.stderr
        self.watcher = self.matrix.watch()
        try:
            self._torment(started + self.options.minutes * 60)
            self.faults.heal()
            self._drain(time.monotonic() + DRAIN_SECONDS)
            self.seconds = time.monotonic() - started
        finally:
            if self.watcher.poll() is None:
                self.watcher.terminate()
                self.watcher.wait(60)
            self.faults.heal()

    def _torment(self, until: float) -> None:
        faults = self.faults
        choices = {
            faults.preempt: 6,
            faults.kill_ranks: 4,
            faults.stop_rank: 2,
            faults.lose_node: 3,
            faults.kill_controller: 2,
            faults.stop_controller: 2,
            faults.kill_accounting: 1,
            self.kill_orchestrator: 4,
        }
        while time.monotonic() < until and not self._over():
            did = self.random.choices(list(choices), list(choices.values()))[0]()
            self.done[did.partition(" ")[0] if did.startswith("preempt") else did] += 1
            pause = time.monotonic() + self.random.uniform(2, 8)
            while time.monotonic() < pause:
                self._keep_watching()
                time.sleep(0.2)

    def _drain(self, until: float) -> None:
        while time.monotonic() < until and not self._over():
            self._keep_watching()
            time.sleep(1)
        # the watcher's next look tells it of the last result
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline and {r["state"] for r in self._rows()} != {"COMPLETED"}:
            self._keep_watching()
            time.sleep(3)

    def _over(self) -> bool:
        return all(job.result.exists() for job in self.matrix.jobs())

    def kill_orchestrator(self) -> str:
        """kill -9 of `orch watch`; somebody starts it again after a while."""
        if self.watcher is None or self.watcher.poll() is not None:
            return "nothing"
        self.watcher.send_signal(signal.SIGKILL)
        self.watcher.wait()
        self.restart_at = time.monotonic() + self.random.uniform(0, 6)
        return "kill orch watch"

    def _keep_watching(self) -> None:
        assert self.watcher is not None
        if self.watcher.poll() is not None and time.monotonic() >= self.restart_at:
            self.watcher = self.matrix.watch()

    def _rows(self) -> list[dict[str, object]]:
        return self.matrix.rows()

    def report(self) -> tuple[str, bool]:
        """Return the table, and whether every promise was kept."""
        found = audit(self.matrix.jobs(), steps=STEPS)
        rows = self._rows()
        wrong = [r for r in rows if r["state"] != "COMPLETED"]
        found.violations += [f"{r['id']}: status says {r['state']}: {r['reason']}" for r in wrong]
        if len(rows) != self.options.jobs:
            found.violations.append(f"status knows {len(rows)} jobs of {self.options.jobs}")
        return table(found, self.done, self.options, self.seconds), not found.violations


def table(found: Audit, done: Counter[str], options: Options, seconds: float) -> str:
    """Return the figures as Markdown."""
    faults = ", ".join(f"{n}× {what}" for what, n in sorted(done.items()) if what != "nothing")
    figures = {
        "jobs": found.jobs,
        "results": found.results,
        "published twice": max(0, found.published - found.results),
        "lost": found.jobs - found.results,
        "attempts": found.attempts,
        "fenced": found.fenced,
        "steps needed": found.needed,
        "replayed": found.replayed,
        "files a job": round(found.files / max(1, found.jobs)),
        "violations": len(found.violations),
    }
    length = f"{options.minutes:g} minutes of faults, all over after {seconds:.0f} s"
    lines = [
        f"seed {options.seed}, {options.jobs} jobs, {length}",
        f"faults: {faults}",
        "",
        f"| {' | '.join(figures)} |",
        "|---" * len(figures) + "|",
        f"| {' | '.join(map(str, figures.values()))} |",
    ]
    return "\n".join([*lines, *[f"VIOLATION {line}" for line in found.violations]])


def main(words: list[str]) -> int:
    """Run one soak; print its table; 1 when a promise was broken."""
    parser = argparse.ArgumentParser(prog="scripts/chaos", description=__doc__)
    parser.add_argument("--jobs", type=int, default=Options.jobs)
    parser.add_argument("--minutes", type=float, default=Options.minutes)
    parser.add_argument("--seed", type=int, default=Options.seed)
    parser.add_argument("--keep", action="store_true", help="leave the state directory behind")
    given = parser.parse_args(words)
    root = Path(tempfile.mkdtemp(prefix="orch-chaos-"))
    soak = Soak(root, Options(jobs=given.jobs, minutes=given.minutes, seed=given.seed))
    try:
        soak.run()
        text, kept = soak.report()
    finally:
        clear()
    sys.stdout.write(text + "\n")
    if kept and not given.keep:
        shutil.rmtree(root)
    else:
        sys.stdout.write(f"state directory: {root}\n")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
