"""Where everything lies below the state directory (DESIGN: "State on disk").

Pure: nothing here touches the disk. Orchestrator and worker both start from a `StateDir`,
so the layout has one author.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_CHECKPOINT = re.compile(r"step-(\d{8,})\.e(\d{4,})")


def checkpoint_name(*, step: int, epoch: int) -> str:
    """Return the directory name of a committed checkpoint, e.g. `step-00001200.e0003`."""
    return f"step-{step:08d}.e{epoch:04d}"


def parse_checkpoint_name(name: str) -> tuple[int, int] | None:
    """Return `(epoch, step)`, the order in which checkpoints are newer, or None for other names."""
    match = _CHECKPOINT.fullmatch(name)
    return (int(match[2]), int(match[1])) if match else None


@dataclass(frozen=True, slots=True)
class AttemptDir:
    """`attempts/NNNN/`: all that one attempt writes, and nobody else."""

    path: Path

    @property
    def progress(self) -> Path:
        """Heartbeat and position, republished by rank 0."""
        return self.path / "progress.json"

    @property
    def noticed(self) -> Path:
        """Touched by rank 0 from a notice until it leaves; stays where it was killed."""
        return self.path / "noticed.json"

    @property
    def metrics(self) -> Path:
        """This attempt's rows of the curve, appended by rank 0."""
        return self.path / "metrics.jsonl"

    @property
    def predictions(self) -> Path:
        """Directory of evaluation predictions."""
        return self.path / "predictions"

    @property
    def publishing(self) -> Path:
        """What this attempt is about to publish. A newer epoch takes it away."""
        return self.path / "publishing"

    @property
    def rendezvous(self) -> Path:
        """Address and port of the process-group store, published by rank 0."""
        return self.path / "rendezvous.json"

    def log(self, rank: int) -> Path:
        """Return the log file of a rank."""
        return self.path / f"rank-{rank:05d}.log"

    def exit_record(self, rank: int) -> Path:
        """Return the exit record of a rank."""
        return self.path / f"exit.r{rank:05d}.json"


@dataclass(frozen=True, slots=True)
class JobDir:
    """`jobs/<job id>/`: enough to rebuild everything the database knows of a job."""

    path: Path

    @property
    def spec(self) -> Path:
        """The resolved, immutable spec."""
        return self.path / "spec.json"

    @property
    def control(self) -> Path:
        """Orchestrator -> worker."""
        return self.path / "control.json"

    @property
    def epochs(self) -> Path:
        """Directory of O_EXCL-created claims: who holds the job."""
        return self.path / "epochs"

    @property
    def attempts(self) -> Path:
        """Directory of attempts; an attempt's number is its epoch."""
        return self.path / "attempts"

    @property
    def checkpoints(self) -> Path:
        """Directory of the checkpoint store."""
        return self.path / "checkpoints"

    @property
    def metrics(self) -> Path:
        """The one curve: each step from its highest epoch, published with the result."""
        return self.path / "metrics.jsonl"

    @property
    def weights(self) -> Path:
        """The tested weights of a job that trains a part of its model, published before the result.

        It lies beside the result, never on scratch.
        """
        return self.path / "weights.safetensors"

    @property
    def result(self) -> Path:
        """Published last, by link(), never overwritten; alone makes a job COMPLETED."""
        return self.path / "result.json"

    def epoch(self, epoch: int) -> Path:
        """Return the claim of an epoch."""
        return self.epochs / f"{epoch:04d}.json"

    def attempt(self, epoch: int) -> AttemptDir:
        """Return the directory of an attempt."""
        return AttemptDir(self.attempts / f"{epoch:04d}")


@dataclass(frozen=True, slots=True)
class SubmissionDir:
    """`submissions/<token>/`: one sbatch call or one local launch."""

    path: Path

    @property
    def token(self) -> str:
        """The submission's random token."""
        return self.path.name

    @property
    def tasks(self) -> Path:
        """tasks.json: which job each array index serves."""
        return self.path / "tasks.json"

    @property
    def batch_script(self) -> Path:
        """The batch script as handed to the scheduler, kept for people to read."""
        return self.path / "batch.sh"

    @property
    def state(self) -> StateDir:
        """The state directory that this submission lies in."""
        return StateDir(self.path.parent.parent)

    def launch(self, index: int) -> Path:
        """Return the local launcher's record of a task: identity, then exit code."""
        return self.path / f"launch.{index:05d}.json"

    def output(self, index: int) -> Path:
        """Return what the local launcher of a task printed."""
        return self.path / f"launch.{index:05d}.out"

    @property
    def cells(self) -> Path:
        """Directory of what belongs to single tasks of packed allocations."""
        return self.path / "cells"

    def departure(self, index: int) -> Path:
        """Return the record that a packed task is over before its allocation is."""
        return self.cells / f"{index:05d}.left.json"

    def drop(self, index: int) -> Path:
        """Return the orchestrator's wish that a packed task ends, or never begins."""
        return self.cells / f"{index:05d}.drop.json"

    def cell_launch(self, index: int) -> Path:
        """Return the local launcher's record of a packed task."""
        return self.cells / f"{index:05d}.launch.json"

    def cell_output(self, index: int) -> Path:
        """Return what a packed task printed."""
        return self.cells / f"{index:05d}.out"


@dataclass(frozen=True, slots=True)
class StateDir:
    """`.orch/` (or $ORCH_HOME); mode 0700."""

    path: Path

    @property
    def database(self) -> Path:
        """SQLite; one writer under the lease; workers never open it."""
        return self.path / "orch.sqlite3"

    @property
    def lock(self) -> Path:
        """The writer's lock; the holder's record lies beside it."""
        return self.path / "writer.lock"

    @property
    def watcher_log(self) -> Path:
        """What the background watcher printed."""
        return self.path / "watch.log"

    @property
    def local(self) -> Path:
        """The embedded local scheduler's directory."""
        return self.path / "local"

    @property
    def matrices(self) -> Path:
        """What was submitted, verbatim."""
        return self.path / "matrices"

    @property
    def code(self) -> Path:
        """Snapshots of the users' code, shared between jobs."""
        return self.path / "code"

    @property
    def jobs(self) -> Path:
        """Directory of job directories."""
        return self.path / "jobs"

    @property
    def submissions(self) -> Path:
        """Directory of submission directories."""
        return self.path / "submissions"

    def snapshot(self, code_digest: str) -> Path:
        """Return the directory of a snapshot of code; its name is the digest's."""
        return self.code / code_digest.removeprefix("sha256:")

    def job(self, job_id: str) -> JobDir:
        """Return a job's directory."""
        return JobDir(self.jobs / job_id)

    def submission(self, token: str) -> SubmissionDir:
        """Return a submission's directory."""
        return SubmissionDir(self.submissions / token)
