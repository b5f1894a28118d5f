"""The batch script's own decisions, under bash with stand-ins for srun, scontrol and python."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from orchestrator.schedulers.slurm_options import batch_template, script_body
from orchestrator.site_schema import Site
from tests.unit.slurm.command_stubs import CommandStubs
from tests.unit.slurm.requests import request

TASK = {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "3", "SLURM_JOB_ID": "7"}


class Script:
    """A batch script that runs in this test."""

    def __init__(self, commands: CommandStubs, tmp_path: Path) -> None:
        self.commands = commands
        self.verdict(0)
        commands.write("scontrol", "echo JobState=RUNNING")
        site = Site(python=str(commands.directory / "python"))
        body = script_body(
            request(directory=str(tmp_path)), site, python="/x", template=batch_template()
        )
        self.path = tmp_path / "batch.sh"
        self.path.write_text(body)

    def verdict(self, code: int) -> None:
        """Say what the question `again?` answers."""
        self.commands.write("python", f"cat; exit {code}")

    def start(self) -> subprocess.Popen[str]:
        """Start it as Slurm would."""
        return subprocess.Popen(
            ["bash", str(self.path)],
            env={"PATH": os.environ["PATH"], **TASK},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self) -> int:
        """Run it to its end."""
        with self.start() as process:
            process.communicate(timeout=20)
        return process.returncode

    @property
    def requeues(self) -> list[str]:
        """The requeues that it asked for."""
        return [line for line in self.commands.calls("scontrol") if line.startswith("requeue")]


@pytest.fixture
def script(commands: CommandStubs, tmp_path: Path) -> Script:
    """A script whose question is answered with yes."""
    return Script(commands, tmp_path)


@pytest.mark.parametrize("code", [0, 1, 78, 9, 137])
def test_other_ends_are_passed_on(script: Script, commands: CommandStubs, code: int) -> None:
    """A result, an exception, a wrong configuration, a killed rank: nobody is asked."""
    commands.write("srun", f"exit {code}")

    assert script.run() == code
    assert script.requeues == []
    assert commands.calls("python") == []


@pytest.mark.parametrize("code", [75, 138, 140, 143])
def test_a_saved_task_is_requeued_by_its_array_name(
    script: Script, commands: CommandStubs, code: int
) -> None:
    """Also one whose ranks died of the notice before their handlers stood."""
    commands.write("srun", f"exit {code}")

    assert script.run() == 75
    assert script.requeues == ["requeue 7_3"]


def test_a_no_stops(script: Script, commands: CommandStubs) -> None:
    """No progress, or cancelled: the task ends with 75, for the reconciler to see."""
    commands.write("srun", "exit 75")
    script.verdict(1)

    assert script.run() == 75
    assert script.requeues == []


def test_the_question_gets_the_tasks_record_and_its_restarts(
    script: Script, commands: CommandStubs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What scontrol says goes to its standard input."""
    monkeypatch.setitem(TASK, "SLURM_RESTART_COUNT", "2")
    commands.write("srun", "exit 75")
    with script.start() as process:
        output, _ = process.communicate(timeout=20)

    assert "JobState=RUNNING" in output
    (question,) = commands.calls("python")
    assert question.startswith("-P -m orchestrator.schedulers.slurm_again --submission")
    assert question.endswith("--index 3 --restarts 2")


def test_a_busy_controller_is_asked_again(script: Script, commands: CommandStubs) -> None:
    """A requeue that fails once would cost a watcher's help."""
    flag = commands.directory / "busy"
    flag.touch()
    commands.write("srun", "exit 75")
    commands.write("scontrol", f'[ "$1" = requeue ] && [ -e {flag} ] && rm {flag} && exit 1; true')

    assert script.run() == 75
    assert script.requeues == ["requeue 7_3"] * 2


def test_sigterm_does_not_end_the_script(script: Script, commands: CommandStubs) -> None:
    """It comes at the end of grace, repeatedly; srun's own end counts."""
    commands.write("srun", "touch $0.started; sleep 1; exit 75")
    with script.start() as process:
        while not (commands.directory / "srun.started").exists():
            time.sleep(0.01)
        for _ in range(3):
            process.send_signal(signal.SIGTERM)
            time.sleep(0.1)
        process.communicate(timeout=20)

    assert process.returncode == 75
    assert script.requeues == ["requeue 7_3"]


def test_sigterm_before_the_ranks_start_brings_the_task_back(
    commands: CommandStubs, tmp_path: Path
) -> None:
    """While the site's lines run (module load takes seconds) nothing is lost by leaving."""
    script = Script(commands, tmp_path)
    commands.write("srun", "exit 0")
    started = tmp_path / "started"
    text = script.path.read_text()
    first, rest = text.split("\n", 1)
    script.path.write_text(f"{first}\ntouch {started}\nsleep 0.5\n{rest}")
    with script.start() as process:
        while not started.exists():
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)

    assert process.returncode == 75
    assert script.requeues == ["requeue 7_3"]
    assert commands.calls("srun") == []


def test_the_ranks_get_their_cpus_and_the_whole_environment(
    script: Script, commands: CommandStubs
) -> None:
    """Since Slurm 22.05 srun no longer inherits --cpus-per-task; after NONE it exports nothing."""
    commands.write("srun", 'echo "cpus $SRUN_CPUS_PER_TASK threads $OMP_NUM_THREADS"; exit 0')
    with script.start() as process:
        output, _ = process.communicate(timeout=20)

    assert output == "cpus 1 threads 1\n"
    (call,) = commands.calls("srun")
    assert "--export=ALL --kill-on-bad-exit=0" in call
    assert "-P -m worker --submission" in call
