"""A rank of 0.3 s that keeps the worker's contract on Slurm without torch.

Rank 0 claims an epoch with the worker's own code, takes a step every `seconds_per_step`, beats,
and on a notice commits a checkpoint of its step and leaves with 75. Checkpoints, fence and
result are the real ones: staged, verified, committed by `checkpoints`. Its weights are a chain of
digests, one link a step, so a result tells whether every step was taken once, in order, upon the
state of the one before (`weights_after`). `stub.json` in the job's directory says how it differs:

    seconds_per_step: x      0.3 by default
    save_every: n            a checkpoint every n steps, too
    leave_at_once: true      leave with 75 before the first step, as a worker without progress does
    ignore_notice: true      go on when told to stop
    exit_code: n             leave with n after the first step
    seconds_to_save: x       between notice and leaving
    stay_at: n               the first attempt takes no step after n: whatever shall end it will

Its testimony, in the job's directory: starts.log, steps.log, commits.log and results.log.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import socket
import sys
import time
from pathlib import Path

from checkpoints.errors import Fenced
from checkpoints.manifest import Environment, ManifestHeader, Parent, Position
from checkpoints.store import CheckpointStore
from durable.faults import hit
from durable.files import append_durable, publish_file, publish_new
from durable.processes import ProcessIdentity
from jobs.contract.paths import AttemptDir, JobDir, SubmissionDir
from jobs.contract.records import (
    EpochRecord,
    ExitRecord,
    Outcome,
    ProgressRecord,
    ResultRecord,
    StopCause,
    TasksRecord,
)
from jobs.spec import JobSpec, semantic_digest
from worker.claim import check_fence, claim
from worker.layout import Layout, read_layout

NOTICES: list[float] = []
STATE = "state.json"
FIRST_WEIGHTS = "sha256:" + "0" * 64


def next_weights(weights: str, step: int) -> str:
    """Return the weights after one step upon others."""
    return "sha256:" + hashlib.sha256(f"{weights} {step}".encode()).hexdigest()


def weights_after(steps: int) -> str:
    """Return what an uninterrupted run ends with."""
    weights = FIRST_WEIGHTS
    for step in range(1, steps + 1):
        weights = next_weights(weights, step)
    return weights


def main() -> int:
    """Be one rank."""
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, lambda _number, _frame: NOTICES.append(time.time()))
    parser = argparse.ArgumentParser()
    parser.add_argument("words", nargs="*")
    parser.add_argument("-m", dest="module")
    parser.add_argument("-P", action="store_true")
    parser.add_argument("--submission", type=Path, required=True)
    submission = SubmissionDir(parser.parse_args().submission)
    layout = read_layout(os.environ)
    tasks = TasksRecord.model_validate_json(submission.tasks.read_bytes())
    task = next(task for task in tasks.tasks if task.index == layout.index)
    job = submission.state.job(task.job)
    spec = JobSpec.model_validate_json(job.spec.read_bytes())
    plan = json.loads((job.path / "stub.json").read_text())
    note = f"{layout.rank} of {layout.world_size} on {layout.hosts} local {layout.local_rank}"
    append_durable(job.path / "ranks.log", f"{note}\n".encode(), durable=False)
    if job.result.exists():
        return 0
    if layout.rank > 0:
        return follow(job, plan)
    return Rank(job, spec, plan, layout, tasks.token).run()


def follow(job: JobDir, plan: dict[str, object]) -> int:
    """Be a rank that only waits: for the notice, the result, or nothing."""
    if plan.get("leave_at_once"):
        return 75
    while not job.result.exists():
        time.sleep(0.05)
        if NOTICES and not plan.get("ignore_notice"):
            time.sleep(float(str(plan.get("seconds_to_save", 0.2))))
            return 75
    return 0


class Rank:
    """Rank 0."""

    def __init__(
        self, job: JobDir, spec: JobSpec, plan: dict[str, object], layout: Layout, token: str
    ) -> None:
        me = ProcessIdentity.current()
        self.job, self.spec, self.plan = job, spec, plan
        wanted = EpochRecord(
            epoch=0,
            token=token,
            scheduler="slurm",
            scheduler_id=layout.scheduler_id or "",
            array_task=layout.array_task,
            restart_count=layout.restart_count,
            launch_id=layout.launch_id,
            host=socket.gethostname(),
            boot_id=me.boot_id,
            pid=me.pid,
            pid_start=me.start,
            started_at=time.time(),
        )
        self.epoch = claim(job, wanted).epoch
        self.attempt: AttemptDir = job.attempt(self.epoch)
        self.store = CheckpointStore(
            job.checkpoints, job=spec.id, spec_digest=semantic_digest(spec.semantic)
        )
        self.weights, self.step = FIRST_WEIGHTS, 0
        self.parent: Parent | None = None
        self.resume()
        self.committed = self.step
        line = f"epoch {self.epoch} restart {layout.restart_count} from step {self.step}"
        self.testify("starts", line)

    def resume(self) -> None:
        """Take the newest checkpoint whose every byte is right."""
        found = self.store.latest_verified(lambda report: self.testify("reports", report))
        if found is not None:
            state = json.loads(found.read_rank(0)[STATE])
            self.step, self.weights = state["step"], state["weights"]
            self.parent = Parent(name=found.name, digest=found.digest)

    def run(self) -> int:
        """Take steps to the end or to a notice; an older epoch ends at its next commit."""
        try:
            return self.train()
        except Fenced as error:
            self.testify("fenced", f"{self.epoch}: {error}")
            sys.stdout.write(f"orch: fenced: {error}\n")
            return self.leave(Outcome.FENCED, 1)

    def train(self) -> int:
        """Take the steps that are left."""
        total = self.spec.semantic.train.steps
        if self.plan.get("leave_at_once"):
            return self.leave(Outcome.NO_PROGRESS, 75)
        while self.step < total:
            self.beat(total)
            time.sleep(self.seconds("seconds_per_step", 0.3))
            while self.epoch == 1 and self.step == self.plan.get("stay_at") and not NOTICES:
                time.sleep(0.1)
            if NOTICES and not self.plan.get("ignore_notice"):
                time.sleep(self.seconds("seconds_to_save", 0.2))
                self.commit("notice")
                return self.leave(Outcome.SAVED, 75)
            self.step += 1
            self.weights = next_weights(self.weights, self.step)
            self.testify("steps", f"{self.epoch} {self.step}")
            hit("loop.after_step")
            if "exit_code" in self.plan:
                return int(str(self.plan["exit_code"]))
            every = int(str(self.plan.get("save_every", 0)))
            if every and self.step % every == 0 and self.step < total:
                self.commit("periodic")
        check_fence(self.job, self.epoch)
        result = ResultRecord(
            job=self.spec.id,
            spec_digest=semantic_digest(self.spec.semantic),
            epoch=self.epoch,
            exact=True,
            metrics={},
            weights_digest=self.weights,
            steps=total,
            trainable_parameters=1,
        )
        if publish_new(self.job.result, result.to_json()):
            self.testify("results", f"{self.epoch} {time.time()}")
        return self.leave(Outcome.COMPLETED, 0)

    def commit(self, kind: str) -> None:
        """Make the step durable, if there is anything new. Raises `Fenced`."""
        if self.step == self.committed:
            check_fence(self.job, self.epoch)
            return
        shard = self.store.stage(step=self.step, epoch=self.epoch, rank=0)
        shard.write(STATE, json.dumps({"step": self.step, "weights": self.weights}).encode())
        header = ManifestHeader(
            epoch=self.epoch,
            step=self.step,
            kind=kind,
            parent=self.parent,
            world_size=1,
            engine={},
            position=Position(samples=self.step, order_digest="sha256:" + "0" * 64),
            states=("model",),
            environment=Environment(versions={}, device_model="cpu", threads=1),
        )
        done = self.store.commit(
            header, shard.finish(), fence=lambda: check_fence(self.job, self.epoch)
        )
        self.testify("commits", f"{self.epoch} {self.step} {time.time()}")
        self.parent = Parent(name=done.name, digest=done.digest)
        self.committed = self.step
        self.store.prune()

    def seconds(self, key: str, default: float) -> float:
        """Return a duration of the plan."""
        return float(str(self.plan.get(key, default)))

    def testify(self, what: str, line: str) -> None:
        """Append a line to one of the job's testimonies."""
        append_durable(self.job.path / f"{what}.log", f"{line}\n".encode(), durable=False)

    def beat(self, total: int) -> None:
        """Republish progress.json."""
        record = ProgressRecord(
            epoch=self.epoch,
            sequence=self.step,
            phase="training",
            step=self.step,
            total_steps=total,
            committed_step=self.committed,
            written_at=time.time(),
        )
        publish_file(self.attempt.progress, record.to_json(), durable=False)

    def leave(self, outcome: Outcome, code: int) -> int:
        """Write the exit record."""
        record = ExitRecord(
            epoch=self.epoch,
            rank=0,
            outcome=outcome,
            cause=StopCause.PREEMPTION if NOTICES else None,
            exit_code=code,
            last_step=self.step,
            committed_step=self.committed,
            seconds_from_notice=time.time() - NOTICES[0] if NOTICES else None,
            written_at=time.time(),
        )
        publish_file(self.attempt.exit_record(0), record.to_json())
        return code


if __name__ == "__main__":
    sys.exit(main())
