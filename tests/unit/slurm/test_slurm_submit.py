"""sbatch leaves one of three outcomes; everything that proves nothing is uncertain."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from orchestrator.schedulers import slurm_submit
from orchestrator.schedulers.base import Accepted, Refused, SubmitOutcome, Uncertain
from orchestrator.schedulers.slurm import SlurmScheduler
from orchestrator.schedulers.slurm_submit import submit_script
from tests.unit.slurm.command_stubs import CommandStubs
from tests.unit.slurm.requests import request

FAILED = "sbatch: error: Batch job submission failed: "


def sbatch(commands: CommandStubs, tmp_path: Path, script: str) -> SubmitOutcome:
    """Submit with an sbatch that does this."""
    commands.write("sbatch", script)
    return submit_script(tmp_path / "batch.sh")


@pytest.mark.parametrize(
    "script",
    [
        "echo 41",
        "echo '41;cluster'",
        "echo 41; echo 'sbatch: some advice' >&2",
    ],
)
def test_a_bare_id_is_an_acceptance(commands: CommandStubs, tmp_path: Path, script: str) -> None:
    """Warnings on stderr do not matter."""
    assert sbatch(commands, tmp_path, script) == Accepted(scheduler_id="41")
    assert commands.calls("sbatch") == [f"--parsable {tmp_path}/batch.sh"]


@pytest.mark.parametrize(
    "script",
    [
        f"echo '{FAILED}Socket timed out on send/recv operation' >&2; exit 1",
        f"echo '{FAILED}Unable to contact slurm controller (connect failure)' >&2; exit 1",
        f"echo '{FAILED}Zero Bytes were transmitted or received' >&2; exit 1",
        f"echo '{FAILED}a message of next year' >&2; exit 1",
        "exit 1",
        "echo 'Welcome to the cluster'; echo 41",
        "echo 'Submitted batch job 41'",
        "true",
        "kill -KILL $$",
        "echo 41; kill -TERM $$",
        "echo 41; exit 1",
    ],
)
def test_what_proves_nothing_is_uncertain(
    commands: CommandStubs, tmp_path: Path, script: str
) -> None:
    """The controller may have taken the job before sbatch failed."""
    assert isinstance(sbatch(commands, tmp_path, script), Uncertain)


def test_an_sbatch_that_does_not_return_is_uncertain(
    commands: CommandStubs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At MaxJobCount sbatch sleeps and tries again for minutes; it is ended with its words."""
    monkeypatch.setattr(slurm_submit, "SBATCH_SECONDS", 0.3)
    script = "echo 'sbatch: error: Slurm temporarily unable to accept job, sleeping' >&2; sleep 60"

    outcome = sbatch(commands, tmp_path, script)

    assert isinstance(outcome, Uncertain)
    assert "temporarily unable to accept" in outcome.reason


@pytest.mark.parametrize(
    ("words", "permanent", "hint"),
    [
        ("Invalid partition name specified", True, "partition"),
        ("Invalid account or account/partition combination specified", True, "account"),
        ("Invalid qos specification", True, "qos"),
        ("Invalid feature specification", True, "constraint"),
        ("Invalid generic resource (gres) specification", True, "gpus"),
        ("Requested node configuration is not available", True, "memory_gb"),
        (
            "Requested time limit is invalid (missing or exceeds some limit)",
            True,
            "time_limit_minutes",
        ),
        (
            "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)",
            False,
            "qos",
        ),
        ("Required partition not available (inactive or drain)", False, "partition"),
    ],
)
def test_a_refusal_is_told_from_the_rest(
    commands: CommandStubs, tmp_path: Path, words: str, permanent: bool, hint: str
) -> None:
    """Permanent ones stop, temporary ones wait, and each names the key to change."""
    script = f"""cat >&2 <<'END'
{FAILED}{words}
END
exit 1"""

    outcome = sbatch(commands, tmp_path, script)

    assert isinstance(outcome, Refused)
    assert (outcome.permanent, hint in outcome.hint) == (permanent, True)
    assert words in outcome.reason


def test_a_missing_sbatch_is_a_refusal_without_effect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was started, so nothing can have been accepted."""
    monkeypatch.setenv("PATH", str(tmp_path))

    outcome = submit_script(tmp_path / "batch.sh")

    assert isinstance(outcome, Refused)
    assert not outcome.permanent


def test_a_submission_with_a_bad_value_never_reaches_sbatch(
    commands: CommandStubs, tmp_path: Path
) -> None:
    """It is refused for good, and nothing was called."""
    commands.write("sbatch", "echo 41")
    wanted = request(directory=f"{tmp_path}/100%")

    outcome = SlurmScheduler(tmp_path).submit(wanted)

    assert isinstance(outcome, Refused)
    assert outcome.permanent
    assert commands.calls("sbatch") == []


def test_the_submitters_environment_does_not_leak_into_sbatch(
    commands: CommandStubs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SBATCH_* and SLURM_* of a surrounding job would change the submission."""
    monkeypatch.setenv("SBATCH_PARTITION", "elsewhere")
    monkeypatch.setenv("SLURM_MEM_PER_CPU", "1")
    monkeypatch.setenv("SLURM_CONF", "/somewhere/slurm.conf")
    seen = tmp_path / "environment"

    sbatch(commands, tmp_path, f"env > {seen}; echo 41")

    names = {line.partition("=")[0] for line in seen.read_text().splitlines()}
    assert not {name for name in names if name.startswith(("SBATCH_", "SLURM_MEM"))}
    assert {"SLURM_CONF", "LC_ALL", "SLURM_TIME_FORMAT"} <= names


def test_a_whole_submission_writes_one_script_and_returns_its_id(
    commands: CommandStubs, tmp_path: Path
) -> None:
    """Through submitit, without its pickles."""
    commands.write("sbatch", "echo 7")
    directory = tmp_path / "submissions" / secrets.token_hex(8)
    directory.mkdir(parents=True)

    outcome = SlurmScheduler(tmp_path).submit(request(directory=str(directory)))

    assert outcome == Accepted(scheduler_id="7")
    assert [path.name for path in directory.iterdir()] == ["batch.sh"]
