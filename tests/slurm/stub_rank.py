"""A rank of 0.3 s that keeps the worker's contract on Slurm without torch.

Rank 0 claims an epoch with the worker's own code, takes a step every `seconds_per_step`, beats, and
on a notice "commits" a checkpoint of its step, leaves an exit record and 75. `stub.json` in the
job's directory says how it differs from that:

    leave_at_once: true      leave with 75 before the first step, as a worker without progress does
    ignore_notice: true      go on when told to stop
    exit_code: n             leave with n after the first step
    seconds_to_save: x       between notice and leaving
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import sys
import time
from pathlib import Path

from durable.files import append_durable, publish_file
from durable.processes import ProcessIdentity
from jobs.contract.paths import AttemptDir, JobDir, SubmissionDir, checkpoint_name
from jobs.contract.paths import parse_checkpoint_name as parse
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
from worker.claim import claim
from worker.layout import Layout, read_layout

NOTICES: list[float] = []


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
        job.checkpoints.mkdir(exist_ok=True)
        found = [p for p in (parse(path.name) for path in job.checkpoints.iterdir()) if p]
        self.committed = self.step = max(found, default=(0, 0))[1]
        line = f"epoch {self.epoch} restart {layout.restart_count} from step {self.step}"
        append_durable(job.path / "starts.log", f"{line}\n".encode(), durable=False)

    def run(self) -> int:
        """Take steps to the end or to a notice."""
        total = self.spec.semantic.train.steps
        if self.plan.get("leave_at_once"):
            return self.leave(Outcome.NO_PROGRESS, 75)
        while self.step < total:
            self.beat(total)
            time.sleep(float(str(self.plan.get("seconds_per_step", 0.3))))
            if NOTICES and not self.plan.get("ignore_notice"):
                time.sleep(float(str(self.plan.get("seconds_to_save", 0.2))))
                self.commit()
                return self.leave(Outcome.SAVED, 75)
            self.step += 1
            if "exit_code" in self.plan:
                return int(str(self.plan["exit_code"]))
        result = ResultRecord(
            job=self.spec.id,
            spec_digest=semantic_digest(self.spec.semantic),
            epoch=self.epoch,
            exact=True,
            metrics={},
            weights_digest="sha256:00",
            steps=total,
            trainable_parameters=1,
        )
        publish_file(self.job.result, result.to_json())
        return self.leave(Outcome.COMPLETED, 0)

    def commit(self) -> None:
        """Make the step durable."""
        name = checkpoint_name(step=self.step, epoch=self.epoch)
        (self.job.checkpoints / name).mkdir()
        self.committed = self.step

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
