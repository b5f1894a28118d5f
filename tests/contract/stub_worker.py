"""A worker of 60 ms: launcher and rank in one process, keeping the contract without torch.

Standard library only. It claims an epoch, beats, "commits" a checkpoint per step, leaves with 75
on TERM, publishes result.json by link. `stub.json` in the state directory says how it behaves
(see `tests.contract.stub.StubPlan`); `starts.log` and `doubles.log` are its testimony.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import signal
import sys
import time
from pathlib import Path

STOP: list[int] = []


def publish(path: Path, value: object) -> None:
    """Replace a file whole."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(value) + "\n")
    temporary.replace(path)


def publish_new(path: Path, value: object) -> bool:
    """Create a file whole, or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(value) + "\n")
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        temporary.unlink()
    return True


def identity() -> dict[str, object]:
    """Return who this process is."""
    fields = Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return {"boot_id": boot_id, "pid": os.getpid(), "start": int(fields[19])}


def append(path: Path, line: str) -> None:
    """Append one line with one write."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(descriptor, f"{line}\n".encode())
    os.close(descriptor)


def claim(job: Path, token: str) -> int:
    """Claim the next epoch."""
    (job / "epochs").mkdir(exist_ok=True)
    me = identity()
    while True:
        taken = [int(p.stem) for p in (job / "epochs").glob("[0-9]*.json")]
        epoch = max(taken, default=0) + 1
        record = {
            "epoch": epoch,
            "token": token,
            "scheduler": "local",
            "scheduler_id": token,
            "host": "stub",
            "boot_id": me["boot_id"],
            "pid": me["pid"],
            "pid_start": me["start"],
            "started_at": time.time(),
        }
        if publish_new(job / "epochs" / f"{epoch:04d}.json", record):
            (job / "attempts" / f"{epoch:04d}").mkdir(parents=True, exist_ok=True)
            return epoch


def run(job: Path, token: str, plan: dict[str, object]) -> int:
    """Be one attempt; return its exit code."""
    home = job.parent.parent
    spec = json.loads((job / "spec.json").read_text())
    if (job / "result.json").exists():
        return 0
    guard = os.open(job / "running.lock", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        append(home / "doubles.log", job.name)
    epoch = claim(job, token)
    append(home / "starts.log", f"{job.name} {epoch}")
    attempt = job / "attempts" / f"{epoch:04d}"
    (job / "checkpoints").mkdir(exist_ok=True)
    steps = [int(p.name[5:13]) for p in (job / "checkpoints").iterdir()]
    step, total = max(steps, default=0), int(spec["semantic"]["train"]["steps"])

    def beat(sequence: int, phase: str) -> None:
        position = {"step": step, "total_steps": total, "committed_step": step or None}
        record = {"epoch": epoch, "sequence": sequence, "phase": phase, "loss": 1.0, **position}
        publish(attempt / "progress.json", {**record, "written_at": time.time()})

    def leave(outcome: str, code: int, cause: str | None = None) -> int:
        record = {"epoch": epoch, "rank": 0, "outcome": outcome, "cause": cause}
        error = None
        if outcome == "exception":
            error = {"type": "ValueError", "message": "stub", "digest": "d"}
        position = {"exit_code": code, "last_step": step, "committed_step": step or None}
        publish(attempt / "exit.r00000.json", {**record, **position, "error": error})
        return code

    sequence = 0
    while step < total:
        beat(sequence, "training")
        sequence += 1
        time.sleep(float(plan.get("seconds_per_step", 0.02)))
        if STOP and not plan.get("ignore_term"):
            return leave("saved" if step else "no_progress", 75, "preemption")
        step += 1
        (job / "checkpoints" / f"step-{step:08d}.e{epoch:04d}").mkdir(exist_ok=True)
        if plan.get("fail_at") == step and epoch <= int(plan.get("failures", 1)):
            return leave(str(plan["failure"]), int(plan.get("exit_code", 1)))
    beat(sequence, "finished")
    if epoch <= int(plan.get("without_result", 0)):
        return leave("completed", 0)
    result = {
        "job": spec["id"],
        "spec_digest": plan["digests"][spec["id"]],
        "epoch": epoch,
        "exact": True,
        "metrics": {"test": {"loss": 1.0}},
        "weights_digest": "sha256:00",
        "steps": total,
        "trainable_parameters": 1,
    }
    publish_new(job / "result.json", result)
    return leave("completed", 0)


def main() -> int:
    """Be the launcher of one task."""
    signal.signal(signal.SIGTERM, lambda number, frame: STOP.append(number))
    parser = argparse.ArgumentParser()
    parser.add_argument("--submission", type=Path, required=True)
    parser.add_argument("--index", type=int, required=True)
    options = parser.parse_args()
    directory = options.submission
    home = directory.parent.parent
    plan = json.loads((home / "stub.json").read_text())
    time.sleep(float(plan.get("seconds_to_start", 0)))
    report = {"identity": identity(), "exit_code": None}
    path = directory / f"launch.{options.index:05d}.json"
    publish(path, report)
    tasks = json.loads((directory / "tasks.json").read_text())
    task = tasks["tasks"][options.index]
    code = run(home / "jobs" / task["job"], tasks["token"], plan)
    publish(path, {**report, "exit_code": code, "ended_at": time.time()})
    return code


if __name__ == "__main__":
    sys.exit(main())
