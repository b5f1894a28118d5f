"""Whether the batch script requeues its own task.

    python -P -m jobs.again --submission DIR --index N

Exit 0: requeue. Exit 1: stop; one line on stdout says why. Any trouble of its own is a stop: a
task that cannot be judged must not be requeued for ever; a watcher (or a person) sees it end.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from jobs.contract.paths import JobDir, SubmissionDir
from jobs.contract.records import (
    BadRecord,
    EpochRecord,
    StopCause,
    TaskRecord,
    TasksRecord,
    read_record,
)
from jobs.history import AttemptHistory, read_history
from jobs.retry import Again, Decision, Stop, decide
from jobs.spec import JobSpec

RESTART_COUNT = "SLURM_RESTART_COUNT"  # absent in the first launch of a task


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the decision and return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        decision = judge(Path(options.submission), options.index, _restart_count(os.environ))
    except Exception as error:  # noqa: BLE001 - requeueing for ever is worse than stopping
        decision = Stop(reason=f"cannot decide ({type(error).__name__}: {error})")
    again = isinstance(decision, Again)
    print(f"orch: {'again' if again else 'stop'}: {' '.join(decision.reason.split())}", flush=True)  # noqa: T201
    return 0 if again else 1


def judge(submission: Path, index: int, restart_count: int) -> Decision:
    """Return whether the task's job runs again in the same task.

    `restart_count`: how often the scheduler has restarted this task. Raises `BadRecord`,
    `ValueError` or `OSError` when tasks.json or spec.json cannot be read.
    """
    directory = SubmissionDir(submission.absolute())
    tasks = read_record(directory.tasks, TasksRecord)
    if tasks is None:
        raise BadRecord(f"{directory.tasks}: missing; --submission must name a submission")
    task = next((task for task in tasks.tasks if task.index == index), None)
    if task is None:
        raise BadRecord(f"{directory.tasks}: has no task of index {index}")
    job = directory.state.job(task.job)
    spec = JobSpec.model_validate_json(job.spec.read_bytes())
    return _judge_job(
        job,
        spec,
        task,
        token=directory.token,
        allocation=index // tasks.pack,
        restart_count=restart_count,
    )


def _judge_job(
    job: JobDir, spec: JobSpec, task: TaskRecord, *, token: str, allocation: int, restart_count: int
) -> Decision:
    history = read_history(job)
    ours = [a for a in history.attempts if a.claim and _is_ours(a.claim, token, allocation)]
    holder = history.attempts[-1] if history.attempts else None
    if holder is not None and _superseded(holder, ours, restart_count):
        return Stop(reason=f"epoch {holder.epoch} of another launch holds the job")
    # Restarts since our newest claim ended before an attempt began. Slurm counts from 0.
    newest = max((a.claim.restart_count for a in ours if a.claim), default=-1)
    unclaimed = max(0, restart_count - newest)
    end = holder.exit if holder is not None and not unclaimed else None
    if end is not None and end.cause is StopCause.HOLD:
        return Stop(reason="a person holds the job; `orch release` continues it")
    counted = read_history(job, unclaimed=unclaimed).since(task.budget_epoch)
    return decide(counted, spec.run.retry, unattended=True)


def _is_ours(claim: EpochRecord, token: str, index: int) -> bool:
    # `index` is the array's. A submission of one job is no array: its claims have no array task.
    return claim.token == token and claim.array_task in (None, index)


def _superseded(holder: AttemptHistory, ours: Sequence[AttemptHistory], restart_count: int) -> bool:
    """Tell whether somebody else took the job after us.

    Our own task in a later restart counts: a node that only looked dead leaves the old script
    alive, and its requeue would end the new copy.
    """
    if not ours or holder.claim is None:
        return False  # we never began: whoever held the job before us is over
    return holder is not ours[-1] or holder.claim.restart_count > restart_count


def _restart_count(environment: Mapping[str, str]) -> int:
    return int(environment.get(RESTART_COUNT) or 0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -P -m jobs.again", description=__doc__)
    parser.add_argument("--submission", required=True, help="directory of the submission")
    parser.add_argument("--index", required=True, type=int, help="array index of the task")
    return parser


if __name__ == "__main__":
    sys.exit(main())
