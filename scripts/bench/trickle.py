"""Many jobs under a small submit limit, run dry without a hand's touch.

Ours: one `orch submit --no-watch`, one `orch watch --until-idle`, stub ranks (a step is a sleep).
Peer: what people write around submitit, which knows no limits: submit one job after the other, and
where Slurm refuses wait ten seconds and try it again; its jobs sleep as long and do nothing else.
*Ideal*: the same work on all CPUs of the cluster, perfectly packed, with no cost of a start.

Leaves with 1 when a result is missing, an attempt was charged for a refusal, Slurm had more tasks
than its limit, or ours took more than 1.5 times the loop's time: short jobs are the worst case for
a watcher that spares the controller.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import submitit
from submitit.core.utils import FailedJobError

from tests.slurm.audit import audit
from tests.slurm.limited_cluster import ACCOUNT, QOS, SITE, Crowd, sbatch_calls, start_limited
from tests.slurm.private_cluster import clear, slurm, until
from tests.slurm.stub_matrix import StubMatrix

LIMIT = 1.5
STEPS = 10
NODES, CPUS = 4, 4
PAUSE = 10.0  # of the loop that people write, after a refusal


@dataclass(frozen=True, kw_only=True)
class Options:
    """What may be chosen."""

    jobs: int
    max_submit: int
    seconds: float

    @property
    def slots(self) -> int:
        """How many jobs can run at once."""
        return min(self.max_submit, NODES * CPUS)

    @property
    def ideal(self) -> float:
        """Seconds that the work needs at least."""
        return self.jobs * self.seconds / self.slots


def ours(root: Path, options: Options) -> tuple[float, list[str], list[str]]:
    """Run the matrix dry; return seconds, figures and what is wrong."""
    matrix = StubMatrix(
        root,
        name="trickle",
        jobs=options.jobs,
        steps=STEPS,
        site=SITE,
        seconds_per_step=options.seconds / STEPS,
    )
    crowd = Crowd()
    started = time.monotonic()
    with crowd.counted():
        said = matrix.submit()
        if said.returncode != 0:
            raise SystemExit(said.stdout + said.stderr)
        watcher = matrix.watch("--until-idle")
        try:
            watcher.wait(20 * options.ideal + 600)
        finally:
            if watcher.poll() is None:
                watcher.terminate()
                watcher.wait(60)
    seconds = time.monotonic() - started
    found, rows, calls = audit(matrix.jobs(), steps=STEPS), matrix.rows(), sbatch_calls(matrix)
    wrong = list(found.violations)
    wrong += [f"{r['id']}: {r['state']}" for r in rows if r["state"] != "COMPLETED"]
    wrong += [f"{r['id']}: {r['attempts']} attempts" for r in rows if r["attempts"] != 1]
    if crowd.most > options.max_submit:
        wrong.append(f"Slurm had {crowd.most} tasks")
    figures = [
        f"{found.results} of {found.jobs} results, {found.attempts} attempts",
        f"sbatch accepted {calls['accepted']}, refused {calls['refused']}",
        f"most tasks at once {crowd.most} of {options.max_submit}",
    ]
    return seconds, figures, wrong


def peer(root: Path, options: Options) -> tuple[float, int]:
    """Run as many sleeps by the loop that people write; return seconds and refused calls."""
    logging.getLogger("submitit").setLevel(logging.CRITICAL)
    executor = submitit.SlurmExecutor(folder=root)
    parameters = {"account": ACCOUNT, "qos": QOS, "partition": "low"}
    executor.update_parameters(time=30, mem="100M", additional_parameters=parameters)
    started, refused = time.monotonic(), 0
    for _ in range(options.jobs):
        while True:
            with suppress(FailedJobError):
                executor.submit(time.sleep, options.seconds)
                break
            refused += 1
            time.sleep(PAUSE)
    until(
        lambda: not slurm("squeue", "-h").strip(),
        "submitit's jobs",
        seconds=20 * options.ideal + 600,
        every=1.0,
    )
    return time.monotonic() - started, refused


def main(words: list[str]) -> int:
    """Run both; print the figures; 1 when a promise was not kept."""
    parser = argparse.ArgumentParser(prog="scripts/bench/trickle", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--jobs", type=int, default=250)
    parser.add_argument("--max-submit", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=15.0, help="of each job")
    options = Options(**vars(parser.parse_args(words)))
    start_limited(options.max_submit, nodes=NODES)
    root = Path(tempfile.mkdtemp(prefix="orch-trickle-"))
    try:
        mine, figures, wrong = ours(root / "ours", options)
        theirs, refused = peer(root / "submitit", options)
    finally:
        clear()
    print(
        f"{options.jobs} jobs of {options.seconds:g} s under MaxSubmit={options.max_submit} on "
        f"{NODES * CPUS} CPUs (ideal {options.ideal:.0f} s): ours {mine:.0f} s, submitit in a loop "
        f"{theirs:.0f} s, ratio {mine / theirs:.2f}"
    )
    print(f"ours: {'; '.join(figures)}; commands after the watch began: 0")
    print(f"the loop: {refused} refused calls")
    for line in wrong:
        print(f"WRONG {line}")
    if wrong:
        print(f"state directory: {root}")
    else:
        shutil.rmtree(root)
    return 0 if not wrong and mine <= LIMIT * theirs else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
