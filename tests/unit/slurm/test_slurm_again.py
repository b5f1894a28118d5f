"""Whether the batch script may requeue its task: Slurm's side of the question."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.retry import Again, Stop
from orchestrator.schedulers.slurm_again import slurm_allows

# As Slurm 22.05 prints it in one line; only these fields matter.
RECORD = (
    "JobId=20 ArrayJobId=20 ArrayTaskId=0 JobName=orch:abc JobState={state} Reason=None"
    " Requeue=1 Restarts={restarts} BatchFlag=1 ExitCode=0:0 RunTime=00:00:06"
    " TimeLimit={limit} TimeMin=N/A StartTime={start} EndTime={end} Deadline=N/A"
    " PreemptEligibleTime=2026-11-22T23:53:09 PreemptTime={preempted}"
)
START = "2026-11-22T23:53:09"


def record(
    state: str = "COMPLETING",
    *,
    restarts: int = 0,
    limit: str = "00:01:00",
    start: str = START,
    end: str = "2026-11-22T23:53:19",
    preempted: str = "None",
) -> str:
    """Return a line of `scontrol --oneliner show job`."""
    return RECORD.format(
        state=state, restarts=restarts, limit=limit, start=start, end=end, preempted=preempted
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (record("RUNNING"), "alive"),
        (record("RUNNING", preempted="2026-11-22T23:53:13"), "alive"),
        (record("SUSPENDED"), "alive"),
        (record(preempted="2026-11-22T23:53:13"), "preempted"),
        (record(end="2026-11-22T23:54:20"), "time limit"),
        (record(limit="1-00:00:00", end="2026-11-23T23:53:09"), "time limit"),
    ],
)
def test_a_task_that_was_not_cancelled_comes_back(text: str, reason: str) -> None:
    """It left by itself, was preempted (PreemptMode=CANCEL), or ran out of time."""
    decision = slurm_allows(text, restarts=0)

    assert isinstance(decision, Again)
    assert reason in decision.reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (record(), "cancelled"),
        (record(limit="UNLIMITED"), "cancelled"),
        # preempted in an earlier life of the same job id
        (record(preempted="2026-11-22T23:50:00"), "cancelled"),
        (record("CANCELLED"), "cancelled"),
        (record(restarts=1), "requeued it already"),
        (record("PENDING"), "requeued it already"),
        ("", "does not tell"),
        ("slurm_load_jobs error: Unable to contact slurm controller", "does not tell"),
        ("Invalid job id specified", "does not tell"),
    ],
)
def test_a_requeue_never_undoes_a_cancel(text: str, reason: str) -> None:
    """Slurm lets a cancelled task requeue itself (measured), so we must not ask for it."""
    decision = slurm_allows(text, restarts=0)

    assert isinstance(decision, Stop)
    assert reason in decision.reason


@given(st.text(max_size=300))
def test_no_text_of_scontrol_raises(text: str) -> None:
    """The answer is always one of the two."""
    assert isinstance(slurm_allows(f"JobState=COMPLETING {text}", restarts=0), Again | Stop)


def test_a_submission_that_cannot_be_read_stops_with_the_reason(tmp_path: Path) -> None:
    """As a program: exit code 1 and one line."""
    argv = ["--submission", str(tmp_path / "submissions" / "t"), "--index", "0", "--restarts", "0"]
    done = subprocess.run(
        [sys.executable, "-P", "-m", "orchestrator.schedulers.slurm_again", *argv],
        input=record("RUNNING"),
        capture_output=True,
        text=True,
    )

    assert done.returncode == 1
    assert done.stdout.startswith("orch: stop: cannot tell whether there is progress")
    assert done.stdout.count("\n") == 1


def test_the_question_costs_no_torch_and_no_submitit() -> None:
    """It runs inside KillWait."""
    code = (
        "import sys, json, orchestrator.schedulers.slurm_again;"
        "print(json.dumps([m for m in ('torch', 'submitit', 'rich', 'typer') if m in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, check=True)

    assert json.loads(done.stdout) == []
