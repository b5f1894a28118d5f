"""sbatch leaves one of three outcomes; everything that proves nothing is uncertain."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from orchestrator.schedulers import slurm_commands, slurm_submit
from orchestrator.schedulers.base import (
    Accepted,
    CheckOutcome,
    Passed,
    Refused,
    SubmitOutcome,
    Uncertain,
    Unreachable,
)
from orchestrator.schedulers.slurm import SlurmScheduler
from orchestrator.schedulers.slurm_commands import Ran
from orchestrator.schedulers.slurm_submit import submit_script
from orchestrator.site_schema import Site
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
    """It is ended with its words."""
    monkeypatch.setattr(slurm_submit, "SBATCH_SECONDS", 0.3)
    script = "echo 'sbatch: error: temporarily unable to accept it, says the proxy' >&2; sleep 60"

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


POLICY = "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"


@pytest.mark.parametrize(
    ("word", "limit"),
    [
        ("AssocMaxSubmitJobLimit", True),
        ("QOSMaxSubmitJobPerUserLimit", True),
        ("QOSMaxSubmitJobPerAccountLimit", True),
        ("AssocGrpSubmitJobsLimit", True),
        ("QOSGrpSubmitJobsLimit", True),
        ("QOSMaxWallDurationPerJobLimit", False),
        ("QOSMaxMemoryPerUser", False),
        ("AssocMaxCpuPerJobLimit", False),
        ("", True),
    ],
)
def test_a_submit_limit_is_told_from_a_job_that_is_too_big_for_ever(
    commands: CommandStubs, tmp_path: Path, word: str, limit: bool
) -> None:
    """Slurm refuses both in the same words; the line before tells them apart."""
    script = f"""cat >&2 <<'END'
{f"sbatch: error: {word}" if word else "sbatch: a banner"}
{FAILED}{POLICY}
END
exit 1"""

    outcome = sbatch(commands, tmp_path, script)

    assert isinstance(outcome, Refused)
    assert (outcome.limit, outcome.permanent) == (limit, not limit)
    assert word in outcome.reason
    assert "site.yaml" in outcome.hint


@pytest.mark.parametrize(("tasks", "limit"), [(5, True), (1, False)])
def test_an_array_above_max_array_size_is_too_large_not_wrong(tasks: int, limit: bool) -> None:
    """The limit may not have been readable; only an array of one that is refused never passes."""
    words = f"{FAILED}Invalid job array specification\n"

    outcome = slurm_submit.outcome(Ran(code=1, out="", err=words), tasks=tasks)

    assert isinstance(outcome, Refused)
    assert (outcome.limit, outcome.permanent) == (limit, not limit)


RETRYING = "sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying"


def test_an_sbatch_that_would_sleep_and_retry_is_ended_as_refused(
    commands: CommandStubs, tmp_path: Path
) -> None:
    """At MaxJobCount it would block for two minutes; ended in its first sleep, it has no effect."""
    outcome = sbatch(commands, tmp_path, f"echo '{RETRYING}' >&2; sleep 60; echo 41")

    assert isinstance(outcome, Refused)
    assert (outcome.limit, outcome.permanent) == (True, False)
    assert "MaxJobCount" in outcome.reason


def test_an_sbatch_that_may_have_woken_up_is_uncertain(
    commands: CommandStubs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """We were too slow to end it in its first sleep: it may have asked again, with success."""
    monkeypatch.setattr(slurm_commands, "SLEEPS_AT_LEAST", 0.0)

    outcome = sbatch(commands, tmp_path, f"echo '{RETRYING}' >&2; sleep 60; echo 41")

    assert isinstance(outcome, Uncertain)


def check(commands: CommandStubs, script: str) -> CheckOutcome:
    """Check the options of a plain site with an sbatch that does this."""
    commands.write("sbatch", script)
    return SlurmScheduler(Path("/srv/orch"), site=Site(account="proj")).check(request())


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("Invalid account or account/partition combination specified", "`account`"),
        ("Invalid partition name specified", "`partition`"),
        ("Invalid qos specification", "`qos`"),
        ("Requested reservation is invalid", "`reservation`"),
        ("Invalid feature specification", "`constraint`"),
        ("Invalid generic resource (gres) specification", "`gpus`"),
    ],
)
def test_a_check_believes_refusals_of_names(commands: CommandStubs, words: str, hint: str) -> None:
    """The words that sbatch --test-only prints on 22.05, and the key to change."""
    outcome = check(commands, f"echo 'allocation failure: {words}' >&2; exit 1")

    assert isinstance(outcome, Refused)
    assert outcome.permanent
    assert hint in outcome.hint
    assert words in outcome.reason


@pytest.mark.parametrize(
    "script",
    [
        # what it says while every node is drained; sbatch itself would take the job
        "echo 'allocation failure: Requested node configuration is not available' >&2; exit 1",
        "echo 'allocation failure: Unable to contact slurm controller' >&2; exit 1",
        "echo 'allocation failure: Job violates accounting/QOS policy' >&2; exit 1",
        "echo 'a message of next year' >&2; exit 1",
        "exit 1",
        "kill -KILL $$",
    ],
)
def test_a_check_believes_nothing_else(commands: CommandStubs, script: str) -> None:
    """It is no proof, so it is no refusal."""
    assert isinstance(check(commands, script), Unreachable)


def test_a_check_submits_nothing_and_asks_for_what_the_group_asks(commands: CommandStubs) -> None:
    """--test-only with the resources and the site's words, without token, array or directory."""
    said = "echo 'sbatch: Job 6 to start at 2026-11-25T16:30:25 using 2 processors' >&2"

    assert check(commands, said) == Passed()

    (call,) = commands.calls("sbatch")
    words = call.split()
    assert {"--test-only", "--account=proj", "--ntasks=2", "--export=NONE"} <= set(words)
    assert not [w for w in words if w.startswith(("--array", "--comment", "--chdir", "--job-name"))]


def test_the_key_of_a_check_is_that_of_its_options() -> None:
    """Tokens do not matter, the site and the resources do."""
    one, other = SlurmScheduler(Path("/a")), SlurmScheduler(Path("/a"), site=Site(qos="q"))
    plain = request()

    assert one.check_key(plain) == one.check_key(request(token="f" * 16, indices=(7,)))
    assert one.check_key(plain) != other.check_key(plain)
    assert one.check_key(plain) != one.check_key(request(ranks=3))


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
