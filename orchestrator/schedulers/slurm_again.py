"""The batch script's question on Slurm: bring this task back by `scontrol requeue`, or not?

    scontrol --oneliner show job ID | python -P -m orchestrator.schedulers.slurm_again …

Leaves with 0 for yes, 1 for no, and prints one line that says why. `jobs.again` knows whether
there is progress; this adds what only Slurm knows: whether a person cancelled the task (a requeue
would undo that). Runs inside the allocation, perhaps in a container: it reads files and its
standard input, and asks no cluster.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

from jobs.again import judge
from jobs.contract.paths import SubmissionDir
from jobs.packed import judge_allocation, read_tasks
from jobs.retry import Again, Decision, Stop

_FIELD = re.compile(r"(?:^|\s)([A-Z][A-Za-z]*)=(\S*)")
_LIMIT = re.compile(r"(?:(\d+)-)?(\d+):(\d+):(\d+)")
_LIVE = frozenset({"RUNNING", "SUSPENDED", "STOPPED", "SIGNALING", "RESIZING", "EXPEDITING"})


def slurm_allows(text: str, *, restarts: int) -> Decision:
    """Return whether Slurm's record of the task allows a requeue. Pure.

    `text` is what `scontrol --oneliner show job` printed. A task that Slurm is already ending is
    brought back when it was preempted or ran out of time, and left alone otherwise: somebody
    cancelled it.
    """
    fields = dict(_FIELD.findall(text))
    state = fields.get("JobState")
    if state is None:
        # Without an answer a requeue would fail, too; an orchestrator finds the task's end.
        return Stop(reason=f"scontrol does not tell the task's state: {text[:120]!a}")
    if state in _LIVE:
        return Again(reason="the task is alive")
    if int(fields.get("Restarts") or 0) > restarts or state in ("PENDING", "REQUEUED"):
        return Stop(reason="Slurm has requeued it already")
    started, preempted = _time(fields.get("StartTime")), _time(fields.get("PreemptTime"))
    if started and preempted and preempted >= started:
        return Again(reason="preempted")
    ended, limit = _time(fields.get("EndTime")), _duration(fields.get("TimeLimit"))
    if started and ended and limit and ended - started >= limit:
        return Again(reason="the time limit was reached")
    return Stop(reason=f"it was cancelled (Slurm says {state}, neither preempted nor out of time)")


def _judge(directory: Path, index: int, restarts: int) -> Decision:
    """Return whether the array's task runs again: for its job, or for any cell of a pack."""
    if read_tasks(SubmissionDir(directory.absolute())).pack == 1:
        return judge(directory, index, restarts)
    if judge_allocation(directory, index, restarts):
        return Again(reason="some of its cells are unfinished")
    return Stop(reason="no cell of it goes on")


def _time(text: str | None) -> datetime | None:
    try:
        return datetime.fromisoformat(text) if text else None
    except ValueError:  # None, Unknown, N/A
        return None


def _duration(text: str | None) -> timedelta | None:
    match = _LIMIT.fullmatch(text or "")
    if match is None:  # UNLIMITED, Partition_Limit
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)


def main(arguments: Sequence[str] | None = None) -> int:
    """Answer by exit code: 0 requeue, 1 do not."""
    parser = argparse.ArgumentParser(prog="python -m orchestrator.schedulers.slurm_again")
    parser.add_argument("--submission", type=Path)  # without: only Slurm's record is asked
    parser.add_argument("--index", type=int, default=0)
    parser.add_argument("--restarts", type=int, required=True)
    options = parser.parse_args(arguments)
    decision = slurm_allows(sys.stdin.read(1 << 20), restarts=options.restarts)
    if isinstance(decision, Again) and options.submission is not None:
        try:
            decision = _judge(options.submission, options.index, options.restarts)
        except (OSError, ValueError) as error:  # records that cannot be read are ValueErrors
            decision = Stop(reason=f"cannot tell whether there is progress: {error}")
    again = isinstance(decision, Again)
    reason = " ".join(decision.reason.split())
    sys.stdout.write(f"orch: {'again' if again else 'stop'}: {reason}\n")
    return 0 if again else 1


if __name__ == "__main__":
    sys.exit(main())
