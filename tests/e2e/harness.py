"""A state directory with one job, and attempts at it: what end-to-end tests share.

    bench = Bench(tmp_path, server=fork_server)          # server=None: cold ranks
    bench.attempt(stop_at=5)                             # SIGTERM exactly after step 5
    bench.attempt(fault="commit.before_rename:kill")     # any ORCH_FAULT
    bench.attempt()                                      # until it ends by itself
    bench.result.weights_digest

An attempt stops itself (SIGSTOP at a named fault point), then gets its signals, then SIGCONT:
so a signal arrives at an exact step, not "about then".
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from durable.processes import ProcessIdentity
from jobs.contract.paths import AttemptDir, JobDir, StateDir, SubmissionDir
from jobs.contract.records import (
    ExitRecord,
    Overrides,
    ProgressRecord,
    ResultRecord,
    TaskRecord,
    TasksRecord,
    WorkerSite,
    read_record,
)
from jobs.spec import JobSpec, Run, Semantic, job_id

TIMEOUT_SECONDS = 90.0
POLL_SECONDS = 0.01
# Waited for: a test that kills at a step knows which checkpoints are there. See `BEHIND`.
WAITED_FOR = Run.model_validate({"save": {"every_steps": 3, "background": False}})
BEHIND = Run.model_validate({"save": {"every_steps": 3}})
TINY = {"n_layer": 2, "n_head": 2, "n_embd": 32, "n_positions": 64}


def swept(everything: Sequence[Any], *, sample: Sequence[Any]) -> Sequence[Any]:
    """Return all cases where a proof asks for them (ORCH_SWEEP), and a sample elsewhere."""
    return everything if os.environ.get("ORCH_SWEEP") else sample


def write_task(directory: Path, *, train: int = 40, held_out: int = 11) -> Path:
    """Write a small two-label task; the same files for the same sizes."""
    directory.mkdir(parents=True, exist_ok=True)
    colours = ("red", "green", "blue", "grey", "pink")
    for split, count in (("train", train), ("dev", held_out), ("test", held_out)):
        rows = []
        for i in range(count):
            word = colours[(i * 7 + len(split)) % 5]
            rows.append(
                f"{word} item {i * 13 % 29} of {split}\t{'warm' if word in 'redpink' else 'cold'}\n"
            )
        (directory / f"{split}.tsv").write_text("".join(rows))
    return directory


def semantic(task: Path, **changes: Any) -> Semantic:
    """Return a tiny job of 12 steps; `changes` by dotted key with `__`, e.g. engine__ranks=2."""
    value: dict[str, Any] = {
        "model": {"family": "decoder", "config": TINY, "tokenizer": {"vocab_size": 300}},
        # Dropout: an attempt that restores no random state gives other weights.
        "method": {"name": "lora", "rank": 4, "alpha": 8.0, "dropout": 0.1},
        "task": {"name": "tsv", "path": str(task), "max_length": 32},
        "train": {
            "steps": 12,
            "global_batch": 4,
            "micro_batch": 2,
            "lr": 1e-2,
            "warmup_steps": 2,
            "evaluate_every_steps": 4,
        },
        "engine": {"ranks": 1, "zero_stage": 0, "threads_per_rank": 1},
        "seed": 7,
    }
    for dotted, changed in changes.items():
        *parents, key = dotted.split("__")
        place = value
        for parent in parents:
            place = place[parent]
        if changed is None:
            place.pop(key, None)
        else:
            place[key] = changed
    return Semantic.model_validate_json(json.dumps(value))


@dataclass(kw_only=True)
class Attempted:
    """How an attempt ended."""

    exit_code: int
    seconds: float
    directory: AttemptDir
    rank_exit_codes: list[int]
    output: str

    def exit(self, rank: int = 0) -> ExitRecord | None:
        """Return a rank's exit record."""
        return read_record(self.directory.exit_record(rank), ExitRecord)

    @property
    def progress(self) -> ProgressRecord:
        """The last heartbeat."""
        record = read_record(self.directory.progress, ProgressRecord)
        assert record is not None
        return record

    def log(self, rank: int = 0) -> str:
        """Return a rank's log."""
        path = self.directory.log(rank)
        return path.read_text(errors="replace") if path.exists() else ""


@dataclass
class Bench:
    """One job in a state directory of its own."""

    root: Path
    server: Any = None  # a worker.forkserver.ForkServer
    job_semantic: Semantic | None = None
    run: Run = WAITED_FOR
    rank_timeout: float = 20.0  # far above what a busy machine takes away; tests of hangs set less
    site: WorkerSite = field(default_factory=WorkerSite)

    def __post_init__(self) -> None:
        self.state = StateDir(self.root / "orch")
        if self.job_semantic is None:
            self.job_semantic = semantic(write_task(self.root / "task"))
        self.spec = JobSpec(
            id=job_id(self.job_semantic), name="tiny", semantic=self.job_semantic, run=self.run
        )
        self.job.path.mkdir(parents=True, mode=0o700)
        self.job.spec.write_bytes(self.spec.to_json())
        self._submissions = 0
        self.submission = self.submit()

    @property
    def job(self) -> JobDir:
        """The job's directory."""
        return self.state.job(self.spec.id)

    @property
    def ranks(self) -> int:
        """Ranks of the job."""
        return self.spec.semantic.engine.ranks

    @property
    def result(self) -> ResultRecord:
        """The published result."""
        record = read_record(self.job.result, ResultRecord)
        assert record is not None, "no result was published"
        return record

    @property
    def last(self) -> AttemptDir:
        """The newest attempt's directory."""
        return self.job.attempt(max(int(p.stem) for p in self.job.epochs.glob("[0-9]*.json")))

    def submit(
        self, *, overrides: Overrides | None = None, waivers: Sequence[str] = ()
    ) -> SubmissionDir:
        """Write a new submission of the job; later attempts use it."""
        self._submissions += 1
        self.submission = self.state.submission(f"token{self._submissions:04d}")
        self.submission.path.mkdir(parents=True)
        task = TaskRecord(
            index=0,
            job=self.spec.id,
            overrides=overrides or Overrides(),
            waivers=tuple(waivers),
        )
        record = TasksRecord(
            token=self.submission.token, scheduler="local", tasks=(task,), site=self.site
        )
        self.submission.tasks.write_bytes(record.to_json())
        return self.submission

    def start(self, *, fault: str = "", env: Mapping[str, str] | None = None) -> Launched:
        """Start an attempt and return at once."""
        full = dict(os.environ) | {
            "ORCH_FAULT": fault,
            "ORCH_RANK_TIMEOUT_SECONDS": str(self.rank_timeout),
            "HF_HUB_OFFLINE": "1",
            "DS_ACCELERATOR": "cpu",
        }
        if self.server is not None:
            full["ORCH_FORKSERVER"] = str(self.server.socket)
        full |= dict(env or {})
        command = [sys.executable, "-P", "-m", "worker.launch"]
        command += ["--submission", str(self.submission.path), "--index", "0"]
        output = self.submission.output(0)
        with output.open("ab") as file:
            process = subprocess.Popen(
                command,
                env=full,
                stdout=file,
                stderr=file,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        return Launched(self, process, started=time.monotonic(), output=output)

    def attempt(
        self,
        *,
        stop_at: int | None = None,
        point: str = "loop.after_step",
        sends: int = signal.SIGTERM,
        fault: str = "",
        env: Mapping[str, str] | None = None,
        timeout: float = TIMEOUT_SECONDS,
    ) -> Attempted:
        """Run an attempt to its end.

        `stop_at`: at the n-th passage of rank 0 through `point` it gets the signal `sends`, and
        so do all other ranks (SIGKILL goes to the launcher and its ranks alike).
        """
        faults = [fault] if fault else []
        if stop_at is not None:
            faults.append(f"{point}[rank=0]:stop@{stop_at}")
        launched = self.start(fault=",".join(faults), env=env)
        try:
            if stop_at is not None:
                launched.wait_stopped(0)
                launched.signal_ranks(sends)
                launched.signal_ranks(signal.SIGCONT)
            return launched.wait(timeout)
        finally:
            launched.end()

    def until_done(self, *, limit: int = 5) -> ResultRecord:
        """Run attempts until the result is there."""
        for _ in range(limit):
            ended = self.attempt()
            if ended.exit_code == 0:
                return self.result
        raise AssertionError(f"no result after {limit} attempts: {ended.log()[-3000:]}")


class Launched:
    """A running launcher with its ranks."""

    def __init__(
        self, bench: Bench, process: subprocess.Popen[bytes], *, started: float, output: Path
    ) -> None:
        self.bench = bench
        self.process = process
        self._started = started
        self._output = output
        self._ranks: list[ProcessIdentity | None] = []

    def record(self) -> dict[str, Any]:
        """Return launch.NNNNN.json of this launch, or nothing yet."""
        try:
            record = json.loads(self.bench.submission.launch(0).read_bytes())
        except FileNotFoundError:
            return {}
        return record if record["identity"]["pid"] == self.process.pid else {}

    def ranks(self) -> list[ProcessIdentity | None]:
        """Return the ranks' identities, in rank order, once they are started."""
        if not self._ranks:
            self.until(lambda: "ranks" in self.record(), "the ranks to be started")
            self._ranks = [ProcessIdentity.of(pid) for pid in self.record()["ranks"]]
        return self._ranks

    def signal_ranks(self, number: int) -> None:
        """Signal every rank; SIGKILL first ends the launcher, as a lost node would."""
        ranks = self.ranks()
        if number == signal.SIGKILL:
            self.process.kill()
        for identity in ranks:
            if identity is not None:
                identity.signal(number)

    def wait_stopped(self, rank: int) -> ProcessIdentity:
        """Wait until a rank has stopped itself at a fault point."""
        identity = self.ranks()[rank]
        assert identity is not None
        self.until(lambda: identity.stopped() or not identity.alive(), f"rank {rank} to stop")
        if not identity.stopped():
            logs = "\n".join(f"rank {n}: {self.log(n)}" for n in range(self.bench.ranks))
            raise AssertionError(f"rank {rank} ended before its fault point:\n{logs}")
        return identity

    def log(self, rank: int = 0) -> str:
        """Return the rank's log so far."""
        path = self.bench.last.log(rank)
        return path.read_text(errors="replace")[-4000:] if path.exists() else ""

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for a condition, bounded."""
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"waited too long for {what}: {self._output.read_text()}")
            time.sleep(POLL_SECONDS)

    def wait(self, timeout: float = TIMEOUT_SECONDS) -> Attempted:
        """Wait for the end of the attempt."""
        code = self.process.wait(timeout)
        for identity in self._ranks:
            if identity is not None:
                self.until(lambda i=identity: not i.alive(), "a rank to end")  # type: ignore[misc]
        return Attempted(
            exit_code=code,
            seconds=time.monotonic() - self._started,
            directory=self.bench.last,
            rank_exit_codes=self.record().get("rank_exit_codes", []),
            output=self._output.read_text(errors="replace"),
        )

    def end(self) -> None:
        """Leave nothing running, whatever happened."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        pids = self.record().get("ranks", [])
        for identity in self._ranks or [ProcessIdentity.of(pid) for pid in pids]:
            if identity is not None:
                identity.signal(signal.SIGKILL)
