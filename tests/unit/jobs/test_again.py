"""The batch script's question: exit 0 requeues, everything else stops."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.again import judge, main
from jobs.contract.records import Outcome
from jobs.retry import Again, Stop
from jobs.spec import RetrySpec
from tests.unit.jobs.job_directories import new_job, new_submission, put


def ask(*arguments: str, restarts: int = 0) -> subprocess.CompletedProcess[str]:
    """Run the module as the batch script does."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "jobs.again", *arguments],
        env={**os.environ, "SLURM_RESTART_COUNT": str(restarts)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_job_that_grew_is_requeued(tmp_path: Path) -> None:
    """Exit 0 and one line."""
    job = new_job(tmp_path).attempt(Outcome.SAVED, committed=20)
    submission = new_submission(tmp_path, job)

    answer = ask("--submission", str(submission.path), "--index", "0")

    assert (answer.returncode, answer.stderr) == (0, "")
    assert answer.stdout == "orch: again: saved at step 20\n"


def test_a_job_that_stands_still_stops_after_three_restarts(tmp_path: Path) -> None:
    """With the reason, without a watcher."""
    job = new_job(tmp_path)
    submission = new_submission(tmp_path, job)
    answers = []
    for restart in range(4):
        job.attempt(Outcome.NO_PROGRESS, restart=restart)
        answers.append(ask("--submission", str(submission.path), "--index", "0", restarts=restart))

    assert [answer.returncode for answer in answers] == [0, 0, 0, 1]
    assert answers[3].stdout.startswith("orch: stop: no progress: 3 restarts in a row")
    assert answers[3].stdout.count("\n") == 1


def test_launches_that_never_become_attempts_stop_too(tmp_path: Path) -> None:
    """A worker that leaves with 75 in its first second claims nothing; restarts still count."""
    submission = new_submission(tmp_path, new_job(tmp_path)).path

    decisions = [judge(submission, 0, restart) for restart in range(5)]

    assert [type(decision) for decision in decisions] == [Again, Again, Again, Stop, Stop]


def test_a_claim_begins_the_count_of_launches_anew(tmp_path: Path) -> None:
    """Many restarts over a long life are no reason to stop; a row without an attempt is."""
    job = new_job(tmp_path).attempt(Outcome.SAVED, committed=20, restart=40)
    submission = new_submission(tmp_path, job).path

    assert isinstance(judge(submission, 0, 40), Again)
    assert isinstance(judge(submission, 0, 42), Again)
    assert isinstance(judge(submission, 0, 43), Stop)


def test_claims_of_other_tasks_are_not_ours(tmp_path: Path) -> None:
    """A new submission's first launch does not inherit the restarts of an earlier one."""
    job = new_job(tmp_path).attempt(Outcome.SAVED, committed=20, token="older", restart=9)
    submission = new_submission(tmp_path, job).path

    assert isinstance(judge(submission, 0, 0), Again)


def test_who_was_superseded_does_not_requeue(tmp_path: Path) -> None:
    """Another submission's attempt holds the job: requeueing would fight it."""
    job = new_job(tmp_path).attempt(Outcome.FENCED, token="t1").attempt(token="t2")
    submission = new_submission(tmp_path, job).path

    decision = judge(submission, 0, 0)

    assert decision == Stop(reason="epoch 2 of another launch holds the job")


def test_the_old_copy_of_a_requeued_task_does_not_requeue(tmp_path: Path) -> None:
    """A node that only looked dead: same token and index, an earlier restart."""
    job = new_job(tmp_path).attempt(Outcome.FENCED, restart=0).attempt(restart=1)
    submission = new_submission(tmp_path, job).path

    assert isinstance(judge(submission, 0, 0), Stop)
    assert isinstance(judge(submission, 0, 1), Again)


def test_the_matrix_budget_is_used(tmp_path: Path) -> None:
    """spec.json says how patient to be."""
    job = new_job(tmp_path, retry=RetrySpec(restarts_without_progress=1))
    job.attempt(Outcome.PEER_LOST).attempt(Outcome.PEER_LOST, restart=1)

    assert isinstance(judge(new_submission(tmp_path, job).path, 0, 1), Stop)


@pytest.mark.parametrize("broken", ["tasks", "no_tasks", "index", "spec", "no_spec", "restarts"])
def test_any_trouble_is_a_stop(
    tmp_path: Path, broken: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A task that cannot be judged must not be requeued for ever."""
    job = new_job(tmp_path).attempt(Outcome.SAVED, committed=20)
    submission = new_submission(tmp_path, job)
    index = "5" if broken == "index" else "0"
    if broken == "restarts":
        monkeypatch.setenv("SLURM_RESTART_COUNT", "many")
    if broken == "tasks":
        put(submission.tasks, b"{")
    if broken == "no_tasks":
        submission.tasks.unlink()
    if broken == "spec":
        put(job.job.spec, job.job.spec.read_bytes().replace(b'"seed":1', b'"seed":2'))
    if broken == "no_spec":
        job.job.spec.unlink()

    code = main(["--submission", str(submission.path), "--index", index])

    assert code == 1
    assert capsys.readouterr().out.startswith("orch: stop: cannot decide")


def test_nothing_heavy_is_imported() -> None:
    """It runs inside a grace time, on a node that may have lost its file cache."""
    heavy = "('torch', 'yaml', 'transformers', 'sqlite3')"
    code = f"import sys, jobs.again; print([m for m in {heavy} if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert shown.stdout.strip() == "[]"
