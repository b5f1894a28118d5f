"""The watcher job: one per state directory, and what its script decides, under bash."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from durable.clock import FakeClock
from jobs.contract.paths import StateDir
from orchestrator.cli import watching
from orchestrator.fault_points import FAULT_POINTS
from orchestrator.schedulers import slurm_watcher
from orchestrator.schedulers.base import SubmitOutcome, TaskState
from orchestrator.schedulers.fake import FakeScheduler
from orchestrator.schedulers.slurm_submit import write_script
from orchestrator.schedulers.slurm_watcher import (
    QUIET_SECONDS,
    WatcherJob,
    WatcherJobProblem,
    cancel_watcher_job,
    ensure_watcher_job,
    watcher_body,
    watcher_options,
)
from orchestrator.site_schema import Site
from tests.unit.slurm.command_stubs import CommandStubs
from tests.unit.slurm.requests import request

TASK = {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "0", "SLURM_RESTART_COUNT": "2"}


class Cluster:
    """A fake cluster behind sbatch."""

    def __init__(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.state = StateDir(home)
        self.clock = FakeClock()
        self.fake = FakeScheduler(clock=self.clock)
        self.scripts: list[str] = []
        monkeypatch.setattr(slurm_watcher, "submit_script", self.sbatch)

    def sbatch(self, script: Path) -> SubmitOutcome:
        """Take a script as the fake cluster takes a submission."""
        self.scripts.append(script.read_text())
        token = script.parent.name
        return self.fake.submit(request(directory=str(script.parent), token=token, indices=(0,)))

    def ensure(self) -> WatcherJob:
        """`orch watch --as-job`."""
        return ensure_watcher_job(self.state, Site(), self.fake, self.clock, site_file=None)


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """An empty cluster and state directory."""
    return Cluster(tmp_path, monkeypatch)


def test_a_second_one_is_named_instead_of_submitted_until_the_first_is_over(
    cluster: Cluster,
) -> None:
    """Also while it waits to come back after a preemption."""
    first = cluster.ensure()
    ((key, _),) = cluster.fake.tasks()
    assert (first.new, first.scheduler_id) == (True, key.scheduler_id)
    for happen in (
        lambda: cluster.fake.start(key),
        lambda: cluster.fake.preempt(key, requeue=True),
    ):
        happen()
        again = cluster.ensure()
        assert (again.new, again.scheduler_id) == (False, key.scheduler_id)

    cluster.fake.end(key, TaskState.COMPLETED, exit_code=0)

    assert cluster.ensure().new
    assert len(cluster.fake.tasks()) == 2


@pytest.mark.parametrize("lost", ["lost_ack", "lost_request"])
def test_an_answer_that_was_lost_is_looked_for_before_another_is_submitted(
    cluster: Cluster, lost: str
) -> None:
    """Adopted if it arrived; else another one, but only after the quiet time."""
    cluster.fake.next_submit.append(lost)
    with pytest.raises(WatcherJobProblem, match="may or may not"):
        cluster.ensure()

    if lost == "lost_ack":
        assert not cluster.ensure().new
    else:
        with pytest.raises(WatcherJobProblem, match="may still arrive"):
            cluster.ensure()
        cluster.clock.advance(QUIET_SECONDS)
        assert cluster.ensure().new

    assert len(cluster.fake.tasks()) == 1


def test_a_silent_or_refusing_slurm_leaves_nothing_behind(cluster: Cluster) -> None:
    """The reason has the key of site.yaml; the next call starts anew."""
    cluster.fake.next_submit.append("refuse_for_ever")
    with pytest.raises(WatcherJobProblem, match="invalid partition") as refused:
        cluster.ensure()
    assert "site.yaml" in refused.value.fix
    cluster.ensure()

    cluster.fake.unreachable = 1
    with pytest.raises(WatcherJobProblem, match="does not say") as silent:
        cluster.ensure()

    assert silent.value.unreachable
    assert len(cluster.fake.tasks()) == 1


def test_under_a_full_submit_limit_it_waits_for_a_place(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One's own jobs have just filled it; the first that ends makes room, and nobody asks twice."""
    cluster.fake.submit(request(indices=(0,)))
    ((mine, _),) = cluster.fake.tasks()
    cluster.fake.start(mine)
    cluster.fake.max_submit = 1
    waits = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2:
            cluster.fake.end(mine, TaskState.COMPLETED, exit_code=0)

    site = SimpleNamespace(site=Site(), path=None)
    chosen = SimpleNamespace(choice=SimpleNamespace(scheduler=cluster.fake), site=site)
    monkeypatch.setattr(watching, "choose_backend", lambda *words: chosen)
    monkeypatch.setattr(watching, "time", SimpleNamespace(sleep=sleep))

    watching.as_job(cluster.state.path, site=None)

    said = capsys.readouterr().err
    assert said.count("waiting until a job has ended") == 1
    assert "the watcher is Slurm job" in said
    assert waits == [watching.ROOM_SECONDS] * 2
    assert len(cluster.fake.tasks()) == 2


def test_it_is_ended_by_its_token(cluster: Cluster) -> None:
    """`orch watch --stop` ends a job that waits to come back, and nothing else."""
    assert cancel_watcher_job(cluster.state, cluster.fake) is None
    job = cluster.ensure()

    assert cancel_watcher_job(cluster.state, cluster.fake) == job.scheduler_id
    assert cluster.fake.tasks()[0][1].state is TaskState.CANCELLED
    assert cancel_watcher_job(cluster.state, cluster.fake) is None


def test_its_options_are_the_sites_with_its_own_keys_first(tmp_path: Path) -> None:
    """One CPU, no environment of the submitter's, no submitit defaults."""
    site = Site.model_validate(
        {
            "account": "a",
            "partition": ["gpu", "big"],
            "extra": {"exclusive": True},
            "watcher": {"partition": "service", "memory_mb": 300, "time_limit_minutes": 90},
        }
    )
    token = "abcdef0123456789"
    body = watcher_body(StateDir(tmp_path), site, tmp_path / "site.yaml")
    script = write_script(tmp_path, watcher_options(token, tmp_path, site), body).read_text()
    directives = dict(re.findall(r"^#SBATCH --([a-z-]+)=?(.*)$", script, re.M))

    assert directives["job-name"] == f"orch:{token}"
    assert directives["comment"] == f"'orch:{token} watcher'"
    wanted = {"partition": "service", "account": "a", "mem": "300M", "time": "90", "array": "0"}
    assert {key: directives[key] for key in wanted} == wanted
    assert (directives["cpus-per-task"], directives["export"]) == ("1", "NONE")
    assert "exclusive" not in directives
    assert "time" not in watcher_options(token, tmp_path, Site())
    plain = write_script(tmp_path, watcher_options(token, tmp_path, Site()), body).read_text()
    assert "--time=" not in plain


class Script:
    """The script with stand-ins for python, scontrol and sleep."""

    def __init__(self, commands: CommandStubs, tmp_path: Path) -> None:
        self.commands, self.folder = commands, tmp_path
        site = Site(python=str(commands.directory / "python"))
        self.path = tmp_path / "watcher-batch.sh"
        body = watcher_body(StateDir(tmp_path), site, None)
        self.path.write_text("orch_heard=0; trap 'orch_heard=1' TERM\n" + body)
        commands.write("scontrol", "echo JobState=RUNNING")
        commands.write("sleep", "exit 0")
        self.answers(watch="exit 0")

    def answers(self, *, watch: str, again: int = 0) -> None:
        """Say what `orch watch` does and whether Slurm's record allows a requeue."""
        self.commands.write(
            "python", f'case "$*" in *slurm_again*) cat >/dev/null; exit {again} ;; esac\n{watch}'
        )

    def run(self, meanwhile: Callable[[subprocess.Popen[str]], None] | None = None) -> int:
        """Run it to its end."""
        with subprocess.Popen(
            ["bash", str(self.path)],
            env={"PATH": os.environ["PATH"], **TASK},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            if meanwhile is not None:
                meanwhile(process)
            process.communicate(timeout=30)
        return process.returncode

    @property
    def watches(self) -> int:
        """How often it began to watch."""
        return sum("watch" in line for line in self.commands.calls("python"))

    @property
    def requeues(self) -> list[str]:
        """The requeues that it asked for."""
        return [line for line in self.commands.calls("scontrol") if line.startswith("requeue")]


@pytest.fixture
def script(commands: CommandStubs, tmp_path: Path) -> Script:
    """A script whose watcher leaves at once."""
    return Script(commands, tmp_path)


def test_it_is_over_when_the_watcher_leaves_in_peace(script: Script) -> None:
    """Nothing is open any more, or it was asked to leave: nobody brings it back."""
    assert script.run() == 0
    assert (script.watches, script.requeues) == (1, [])


def test_it_stands_by_while_somebody_else_watches(script: Script) -> None:
    """Exit 5 any number of times, then the lease is free."""
    mark = script.folder / "count"
    script.answers(watch=f'echo x >> {mark}; [ "$(wc -l < {mark})" -gt 30 ] || exit 5')

    assert script.run() == 0
    assert script.watches == 31


def test_a_watcher_that_cannot_work_ends_it_after_a_while(script: Script) -> None:
    """A broken installation must not fill a node for ever."""
    script.answers(watch="exit 1")

    assert script.run() == 1
    assert (script.watches, script.requeues) == (20, [])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2])
@pytest.mark.parametrize("again", [0, 1])
def test_preempted_or_out_of_time_it_ends_its_watcher_and_comes_back(
    script: Script, number: int, again: int
) -> None:
    """The watcher gets its SIGTERM; a cancelled job is not brought back."""
    gone = script.folder / "gone"
    loop = "while :; do /bin/sleep 0.05; done"
    script.answers(watch=f"trap 'echo > {gone}; exit 0' TERM; {loop}", again=again)

    def preempt(process: subprocess.Popen[str]) -> None:
        deadline = time.monotonic() + 20
        while not script.watches:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(0.2)  # the stand-in's trap
        process.send_signal(number)

    assert script.run(preempt) == 75
    assert gone.exists()
    assert script.requeues == (["requeue 7_0"] if again == 0 else [])


@pytest.mark.parametrize("point", [p for p in FAULT_POINTS if p.startswith("watchjob.")])
def test_killed_around_sbatch_there_is_one_job_in_the_end(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    """Before it the quiet time passes, after it the job is found by its token."""

    def die(name: str) -> None:
        if name == point:
            raise KeyboardInterrupt

    monkeypatch.setattr(slurm_watcher, "hit", die)
    with pytest.raises(KeyboardInterrupt):
        cluster.ensure()
    monkeypatch.undo()
    monkeypatch.setattr(slurm_watcher, "submit_script", cluster.sbatch)
    cluster.clock.advance(QUIET_SECONDS)

    job = cluster.ensure()

    assert [task.scheduler_id for _, task in cluster.fake.tasks()] == [job.scheduler_id]
