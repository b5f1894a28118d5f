"""sbatch through submitit: it writes the directives, our constant script runs, ours decides.

No pickle, no submitit job directory: `submit` and `map_array` are never called. What sbatch
leaves is one of three: it has the job, it refused it, or nobody knows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from durable.faults import hit
from durable.files import publish_file
from jobs.contract.paths import SubmissionDir
from orchestrator.schedulers.base import (
    Accepted,
    CheckOutcome,
    Passed,
    Refused,
    SubmitOutcome,
    Uncertain,
    Unreachable,
)
from orchestrator.schedulers.slurm_commands import Broken, Ran, run
from orchestrator.schedulers.slurm_parse import parse_submitted
from orchestrator.schedulers.slurm_refusals import named_refusal, refusal

SBATCH_SECONDS = 60.0
CHECK_SECONDS = 20.0
# At MaxJobCount sbatch repeats a refused request for two minutes by itself; we wait better.
SLEEPS = "sleeping and retrying"
FULL = "Slurm takes no more jobs now (MaxJobCount)"


def write_script(directory: Path, options: Mapping[str, str | int | bool], body: str) -> Path:
    """Write submissions/<token>/batch.sh and return its path. Raises OSError."""
    executor = _executor_class()(folder=directory)
    # `wckey` would be "submitit", `nodes` would be 1: None leaves both out.
    executor.parameters = {
        "job_name": options["job-name"],
        "wckey": None,
        "nodes": None,
        "stderr_to_stdout": True,
        "use_srun": False,
        "additional_parameters": _spelled(options),
    }
    executor.parameters["map_count"] = 1  # an array; its indices are in additional_parameters
    return Path(str(executor._submit_command(body).submission_file))


def submit_script(script: Path, *, tasks: int = 1) -> SubmitOutcome:
    """Run sbatch on the batch script of so many tasks."""
    hit("slurm.before_sbatch")
    command = ["sbatch", "--parsable", str(script)]
    answer = run(command, seconds=SBATCH_SECONDS, sleeps=SLEEPS)
    hit("slurm.after_sbatch")
    return outcome(answer, tasks=tasks)


def outcome(answer: Ran | Broken, *, tasks: int = 1) -> SubmitOutcome:
    """Return what an answer of sbatch means. Pure.

    Only a job id and nothing else is an acceptance, only a refusal that Slurm's sources know is
    one: sbatch also fails after the controller has taken the job ("Socket timed out").
    """
    if isinstance(answer, Broken):
        if not answer.started:
            return Refused(
                reason=answer.reason, permanent=False, hint="is Slurm's sbatch on this machine?"
            )
        if answer.asleep:
            return Refused(
                reason=FULL, permanent=False, limit=True, hint="more is submitted as jobs end"
            )
        return Uncertain(reason=_with_words(answer.reason, answer.err))
    job_id = parse_submitted(answer.out) if answer.code == 0 else None
    if job_id is not None:
        return Accepted(scheduler_id=job_id)
    if answer.code == 0:
        return Uncertain(reason=f"sbatch printed {answer.out[:120]!a} instead of a job id")
    known = refusal(answer.err, tasks=tasks)
    return known or Uncertain(reason=_with_words(f"sbatch left with {answer.code}", answer.err))


def check_options(words: Sequence[str]) -> CheckOutcome:
    """Run `sbatch --test-only` with these options: nothing is submitted."""
    # all on the command line: it prints to stderr, and what it says of a script is the same
    command = ["sbatch", "--test-only", "--output=/dev/null", *words, "--wrap=true"]
    answer = run(command, seconds=CHECK_SECONDS)
    if isinstance(answer, Broken):
        return Unreachable(reason=_with_words(answer.reason, answer.err))
    if answer.code == 0:
        return Passed()
    known = named_refusal(answer.err)
    said = f"sbatch --test-only left with {answer.code}"
    return known or Unreachable(reason=_with_words(said, answer.err))


def _with_words(reason: str, stderr: str) -> str:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    return f"{reason}: {lines[-1][:200]!a}" if lines else reason


def _spelled(options: Mapping[str, str | int | bool]) -> dict[str, str | int | bool]:
    return {key: value for key, value in options.items() if key != "job-name"}


class _Written:
    """What our executor's `_submit_command` returns: the script is written, not yet submitted."""

    def __init__(self, submission_file: Path) -> None:
        self.submission_file = submission_file


@cache
def _executor_class() -> Any:
    """Return our executor; submitit costs 0.2 to 3 s to import, so only submitting pays it."""
    from submitit.slurm.slurm import SlurmExecutor

    class BatchExecutor(SlurmExecutor):  # type: ignore[misc] # submitit is untyped here
        """submitit's executor without its pickles, its job files and its unbounded sbatch."""

        @classmethod
        def affinity(cls) -> int:
            """Say yes: whether Slurm is there is asked elsewhere, with a better message."""
            return 2

        def _make_submission_file_text(self, command: str, uid: str) -> str:
            """Leave out submitit's own signal and time limit where we ask for none."""
            text = str(super()._make_submission_file_text(command, uid))
            asked = self.parameters["additional_parameters"]
            unasked = tuple(f"#SBATCH --{k}=" for k in ("signal", "time") if k not in asked)
            return "\n".join(line for line in text.split("\n") if not line.startswith(unasked))

        def _submit_command(self, command: str) -> _Written:
            """Write the script where people look for it, instead of submitting at once."""
            path = SubmissionDir(self.folder).batch_script
            publish_file(path, self._make_submission_file_text(command, "").encode())
            return _Written(path)

    return BatchExecutor
