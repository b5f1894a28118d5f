"""A soak of checkpoints: real trainings on a real Slurm, stopped, killed and preempted at random.

    scripts/proof soak-checkpoints [--minutes 10] [--seed N]         # as root

While the faults last every checkpoint that is there is read to the byte, again and again. At the
end each attempt's first word is compared with what earlier ones said they had committed: it must
have begun from the newest. Results must be those of uninterrupted runs, bit by bit. Leaves with 1
when anything was violated.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from checkpoints.errors import BrokenCheckpoint
from checkpoints.store import CheckpointStore
from jobs.archive import AttemptArchive
from jobs.contract.paths import JobDir, parse_checkpoint_name
from jobs.contract.records import Outcome, ProgressRecord, ResultRecord, read_record
from jobs.history import read_history
from jobs.spec import JobSpec, semantic_digest
from tests.slurm.faults import Faults
from tests.slurm.private_cluster import clear, private_cluster, slurm, until
from tests.slurm.proof import Proof, Scenario, references
from worker.folding import count_files
from worker.forkserver import ForkServer

STEPS, SAVE_EVERY, EVALUATE_EVERY = 3000, 40, 500
RANK_TIMEOUT, STOPPED = 15, 40.0
PAUSE = (5.0, 14.0)  # seconds between faults
DRAIN_SECONDS = 1500.0
_SAVED = re.compile(r"saved (step-\d+\.e\d+) \((\w+)\)")
SETTINGS = (
    f"train.steps={STEPS}",
    f"train.evaluate_every_steps={EVALUATE_EVERY}",
    f"save.every_steps={SAVE_EVERY}",
    # Faults come more often than any cluster has them: nobody gives up.
    "retry.restarts_without_progress=1000",
    "retry.node_failures=1000",
    "retry.launch_failures=1000",
)


@dataclass
class Found:
    """What was seen."""

    attempts: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    resumed: int = 0  # attempts that began from a checkpoint
    from_scratch: int = 0  # that began from step 0, with nothing committed before
    unknown: int = 0  # that died before they had chosen
    saved: Counter[str] = field(default_factory=Counter)  # by kind
    read: int = 0  # whole checkpoints that were compared to the byte while faults lasted
    most_files: int = 0
    violations: list[str] = field(default_factory=list)


class Eye(threading.Thread):
    """Reads what is committed, again and again: whoever looks finds only whole checkpoints."""

    def __init__(self, specs: tuple[JobSpec, ...], jobs: list[JobDir], found: Found) -> None:
        super().__init__(daemon=True)
        self._jobs = list(zip(specs, jobs, strict=True))
        self._found = found
        self.over = threading.Event()

    def run(self) -> None:
        """Look until it is over."""
        while not self.over.wait(1.0):
            for spec, job in self._jobs:
                self._found.most_files = max(self._found.most_files, count_files(job))
                digest = semantic_digest(spec.semantic)
                store = CheckpointStore(job.checkpoints, job=spec.id, spec_digest=digest)
                for name in store.candidates():
                    try:
                        store.verify(name)
                        self._found.read += 1
                    except (BrokenCheckpoint, OSError) as error:
                        if (store.root / name).is_dir():  # it was not pruned meanwhile
                            self._found.violations.append(f"{spec.id}: {name}: {error}")


def torment(
    faults: Faults, until_: float, random: Random, over: Callable[[], bool]
) -> Counter[str]:
    """Do things at random until the time is up; return what was done how often."""
    done: Counter[str] = Counter()
    choices: dict[Callable[[], str], int] = {
        term_ranks: 4,
        faults.kill_ranks: 4,
        lambda: faults.preempt(nodes=random.randint(1, 4)): 5,
        lambda: faults.stop_rank(STOPPED): 2,
        lambda: faults.lose_node(seconds=random.uniform(5, 20)): 1,
    }
    while time.monotonic() < until_ and not over():
        did = random.choices(list(choices), list(choices.values()))[0]()
        done[did.partition(" ")[0] if did.startswith("preempt") else did] += 1
        time.sleep(random.uniform(*PAUSE))
    return done


def term_ranks() -> str:
    """SIGTERM reaches the ranks of one running task, and nobody else."""
    listed = slurm("squeue", "--noheader", "--steps", "--partition=low", "--format=%i")
    steps = [word for word in listed.split() if word.endswith(".0")]
    if not steps:
        return "nothing"
    step = steps[time.monotonic_ns() % len(steps)]
    ended = subprocess.run(["scancel", "--signal=TERM", step], capture_output=True, check=False)
    return "term ranks" if ended.returncode == 0 else "nothing"


def saved_names(job: JobDir, epoch: int, archive: AttemptArchive) -> Iterator[tuple[str, str]]:
    """Yield the name and kind of each checkpoint that an attempt said it had committed."""
    path = job.attempt(epoch).log(0)
    data = path.read_bytes() if path.exists() else archive.read(path) or b""
    for match in _SAVED.finditer(data.decode(errors="replace")):
        yield match[1], match[2]


def judge(spec: JobSpec, job: JobDir, found: Found) -> None:
    """Read the testimony of one job."""
    archive = AttemptArchive.of(job)
    newest = (0, 0)  # (epoch, step) of what is known to be committed
    for attempt in read_history(job).attempts:
        found.attempts += 1
        ended = attempt.exit
        found.ends[ended.outcome.value if ended else "killed"] += 1
        if ended is not None and ended.outcome in (Outcome.EXCEPTION, Outcome.CONFIGURATION):
            found.violations.append(f"{spec.id}: attempt {attempt.epoch}: {ended.error}")
        path = job.attempt(attempt.epoch).progress
        said = read_record(path, ProgressRecord) or archive.record(path, ProgressRecord)
        if said is not None and any("quarantined" in line for line in said.reports):
            found.violations.append(f"{spec.id}: attempt {attempt.epoch}: {said.reports}")
        if attempt.resumed_step is None:
            found.unknown += 1
        else:
            parsed = parse_checkpoint_name(attempt.resumed_from or "") or (0, 0)
            found.resumed += parsed != (0, 0)
            found.from_scratch += parsed == (0, 0)
            if parsed < newest:
                found.violations.append(
                    f"{spec.id}: attempt {attempt.epoch} began from {parsed}, {newest} was there"
                )
            newest = max(newest, parsed)
        for name, kind in saved_names(job, attempt.epoch, archive):
            found.saved[kind] += 1
            newest = max(newest, parse_checkpoint_name(name) or newest)


def compare(proof: Proof, root: Path, found: Found) -> None:
    """Compare the results with uninterrupted local runs."""
    specs = proof.specs()
    with ForkServer.start(env={"HF_HUB_OFFLINE": "1"}) as server:
        known = references(specs, root / "reference", server)
    for spec, job in zip(specs, proof.jobs(), strict=True):
        result = read_record(job.result, ResultRecord)
        if result is None:
            found.violations.append(f"{spec.id}: no result")
        elif (result.weights_digest, result.metrics["test"]) != known[spec.id]:
            found.violations.append(f"{spec.id}: other weights than an uninterrupted run")
        elif not result.exact:
            found.violations.append(f"{spec.id}: not exact: {result.inexact_reasons}")


def run(root: Path, *, minutes: float, seed: int) -> tuple[Found, Counter[str], float]:
    """Run the soak; return what was seen, what was done, and the seconds until all was over."""
    cluster = private_cluster()
    assert not isinstance(cluster, str), cluster
    os.environ["SLURM_CONF"] = str(cluster.paths.slurm_conf)
    scenario = Scenario(watched=True, preempt=False, seeds="[1]", settings=SETTINGS)
    proof, random, found = Proof(root / "soak", scenario), Random(seed), Found()
    with proof.site.open("a") as site:
        site.write(f"rank_timeout_seconds: {RANK_TIMEOUT}\n")
    started = time.monotonic()
    proof.submit()
    specs, jobs = proof.specs(), proof.jobs()
    faults, eye = Faults(cluster, jobs, random), Eye(specs, jobs, found)

    def over() -> bool:
        return all(job.result.exists() for job in jobs)

    with proof.watcher():
        eye.start()
        done = torment(faults, started + minutes * 60, random, over)
        faults.heal()
        until(over, "all results", seconds=DRAIN_SECONDS, every=1.0)
    seconds = time.monotonic() - started
    eye.over.set()
    eye.join()
    for spec, job in zip(specs, jobs, strict=True):
        judge(spec, job, found)
    compare(proof, root, found)
    return found, done, seconds


def main(words: list[str]) -> int:
    """Run one soak; print its figures; 1 when anything was violated."""
    parser = argparse.ArgumentParser(prog="scripts/proof soak-checkpoints", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(words)
    with tempfile.TemporaryDirectory(prefix="orch-soak-") as folder:
        try:
            found, done, seconds = run(Path(folder), minutes=given.minutes, seed=given.seed)
        finally:
            clear()
    ended = ", ".join(f"{count} {name}" for name, count in sorted(found.ends.items()))
    saved = ", ".join(f"{count} {kind}" for kind, count in sorted(found.saved.items()))
    sys.stdout.write(
        f"seed {given.seed}, {given.minutes:g} minutes of faults, over after {seconds:.0f} s\n"
        f"faults: {', '.join(f'{n}x {what}' for what, n in sorted(done.items()))}\n"
        f"attempts: {found.attempts} ({ended})\n"
        f"began: {found.resumed} from the newest checkpoint, {found.from_scratch} from step 0,"
        f" {found.unknown} ended before they had chosen\n"
        f"saved: {saved}; read to the byte meanwhile: {found.read}\n"
        f"files of a job: at most {found.most_files}\n"
        f"violations: {len(found.violations)}\n"
    )
    for line in found.violations:
        sys.stdout.write(f"VIOLATION {line}\n")
    return 1 if found.violations else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
