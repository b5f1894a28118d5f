"""The embedded scheduler keeps the contract, with real processes of the stub worker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from durable.processes import ProcessIdentity
from jobs.contract.paths import StateDir, SubmissionDir
from orchestrator.schedulers.base import OVER, Known, Refused, TaskKey, TaskState
from orchestrator.schedulers.local import LocalScheduler
from orchestrator.schedulers.local_task import EndRecord, LocalTask, StartRecord
from tests.contract.scheduler_contract import (
    Cluster,
    SchedulerContract,
    look,
    request_for,
    submit,
    wait_for,
)
from tests.contract.stub import LAUNCH_ARGV, lines, make_spec, write_plan

SPECS = [make_spec(seed) for seed in range(1, 6)]
Clusters = Iterator[Cluster]


def local_cluster(home: Path, **options: object) -> Cluster:
    """Return a cluster of two slots."""
    values = {"cpus": 2, "gpus": (), "launch_argv": LAUNCH_ARGV, **options}
    return Cluster(home=home, scheduler=LocalScheduler(home, **values))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A state directory whose stub jobs run for a second."""
    home = tmp_path / "home"
    write_plan(home, SPECS, seconds_per_step=0.35)
    return home


@pytest.fixture
def cluster(home: Path) -> Clusters:
    """A local scheduler; what it started is ended."""
    cluster = local_cluster(home)
    yield cluster
    end_all(home)


def end_all(home: Path) -> None:
    """SIGKILL what is left of a test, by identity."""
    for path in home.glob("submissions/*/launch.*.json"):
        identity = json.loads(path.read_text())["identity"]
        process = ProcessIdentity(identity["boot_id"], identity["pid"], identity["start"])
        process.signal(signal.SIGKILL)


def task_of(home: Path, key: TaskKey) -> LocalTask:
    """Return the files of a task."""
    state = StateDir(home)
    return LocalTask(state.local, SubmissionDir(state.submission(key.token).path), key.index)


def wait_until(condition: object, seconds: float = 10.0) -> None:
    """Wait for a callable to be true."""
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "it never became true"
        time.sleep(0.02)


class TestLocalKeepsTheContract(SchedulerContract):
    """The suite."""


def test_slots_are_never_exceeded_and_order_is_kept(cluster: Cluster, home: Path) -> None:
    """Four tasks on two slots: two run, and they start in the order of arrival."""
    keys = submit(cluster, SPECS[:4])

    answers = list(cluster.scheduler.observe(keys).answers.values())

    states = [a.state for a in answers if isinstance(a, Known)]
    assert states == [TaskState.RUNNING] * 2 + [TaskState.PENDING] * 2
    for key in keys:
        wait_for(cluster, key, [TaskState.COMPLETED])
    started = [line.split()[0] for line in lines(home / "starts.log")]
    assert set(started[:2]) == {SPECS[0].id, SPECS[1].id}


def test_a_task_larger_than_the_machine_gets_all_of_it(home: Path) -> None:
    """ranks × threads above the machine is capped, so that nothing waits for ever."""
    cluster = local_cluster(home)
    request = request_for(cluster, SPECS[:1])
    big = type(request)(**{f: getattr(request, f) for f in request.__slots__} | {"ranks": 64})

    accepted = cluster.scheduler.submit(big)
    key = TaskKey(token=big.token, scheduler_id=accepted.scheduler_id, index=0)
    (beside,) = submit(cluster, SPECS[1:2])

    wait_for(cluster, key, [TaskState.RUNNING])
    answer = look(cluster, beside)
    assert isinstance(answer, Known)
    assert answer.state is TaskState.PENDING
    wait_for(cluster, beside, [TaskState.COMPLETED])


def test_gpus_that_are_not_there_are_refused_for_good(cluster: Cluster) -> None:
    """No repetition can help, so the hint says what can."""
    request = request_for(cluster, SPECS[:1])
    resources = request.resources.model_copy(update={"gpus_per_rank": 1})
    fields = {f: getattr(request, f) for f in request.__slots__}

    outcome = cluster.scheduler.submit(type(request)(**fields | {"resources": resources}))

    assert isinstance(outcome, Refused)
    assert outcome.permanent
    assert "gpus_per_rank" in outcome.hint


def test_gpus_are_handed_out_once(home: Path) -> None:
    """Two tasks of one GPU each see different ones, and nothing of the others."""
    cluster = local_cluster(home, gpus=(4, 7))
    seen = []
    for spec in SPECS[:2]:
        request = request_for(cluster, [spec])
        resources = request.resources.model_copy(update={"gpus_per_rank": 1})
        fields = {f: getattr(request, f) for f in request.__slots__}
        cluster.scheduler.submit(type(request)(**fields | {"resources": resources}))
        cluster.scheduler.observe([])
        key = TaskKey(token=request.token, scheduler_id=request.token, index=0)
        start = task_of(home, key).started()
        assert start is not None
        seen.append(start.gpus)
    assert seen == [(4,), (7,)]
    end_all(home)


def test_what_runs_is_adopted_by_the_next_scheduler(home: Path) -> None:
    """A new object (a restarted orchestrator) sees the same tasks, starts none of them again."""
    keys = submit(local_cluster(home), SPECS[:2])
    first = local_cluster(home)
    wait_for(first, keys[0], [TaskState.RUNNING])

    second = local_cluster(home)
    for key in keys:
        wait_for(second, key, [TaskState.COMPLETED])

    assert len(lines(home / "starts.log")) == 2


def test_a_scheduler_killed_with_running_tasks_leaves_them_running(home: Path) -> None:
    """kill -9 of the process that started them: they go on and are adopted."""
    script = (
        "import sys, time; from pathlib import Path;"
        "from tests.contract.test_local import local_cluster, SPECS, submit;"
        "c = local_cluster(Path(sys.argv[1])); keys = submit(c, SPECS[:2]);"
        "c.scheduler.observe(keys); print(keys[0].token, flush=True); time.sleep(60)"
    )
    root = Path(__file__).parent.parent.parent
    child = subprocess.Popen(
        [sys.executable, "-c", script, str(home)], cwd=root, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    token = child.stdout.readline().strip()
    child.kill()
    child.wait()

    cluster = local_cluster(home)
    keys = [TaskKey(token=token, scheduler_id=token, index=index) for index in (0, 1)]
    assert all(
        isinstance(a, Known) and a.state is TaskState.RUNNING
        for a in cluster.scheduler.observe(keys).answers.values()
    )
    for key in keys:
        wait_for(cluster, key, [TaskState.COMPLETED])
    assert len(lines(home / "starts.log")) == 2


def test_notice_lets_the_worker_save_and_counts_as_preempted(cluster: Cluster) -> None:
    """TERM, exit 75: PREEMPTED."""
    (key,) = submit(cluster, SPECS[:1])
    wait_for(cluster, key, [TaskState.RUNNING])
    SchedulerContract.until_signalled(cluster, cluster.scheduler.notify, key)

    end = wait_for(cluster, key, list(OVER))

    assert (end.state, end.exit_code) == (TaskState.PREEMPTED, 75)


def test_a_launcher_killed_from_outside_is_a_node_failure(cluster: Cluster, home: Path) -> None:
    """It vanished without an exit code; nothing of its group stays."""
    (key,) = submit(cluster, SPECS[:1])
    wait_for(cluster, key, [TaskState.RUNNING])
    wait_until(lambda: task_of(home, key).launch() is not None)
    process = task_of(home, key).launch().process()

    process.signal(signal.SIGKILL)

    end = wait_for(cluster, key, list(OVER))
    assert end.state is TaskState.NODE_FAIL
    assert end.reason == "its launcher was killed (out of memory or by somebody)"


def test_orphaned_ranks_of_a_dead_launcher_are_ended_before_the_task_is_over(
    cluster: Cluster, home: Path
) -> None:
    """A rank that outlives its launcher would write beside the next attempt."""
    (key,) = submit(cluster, SPECS[:1])
    wait_for(cluster, key, [TaskState.RUNNING])
    wait_until(lambda: task_of(home, key).launch() is not None)
    process = task_of(home, key).launch().process()
    orphan = subprocess.Popen(
        ["sleep", "60"],
        env={"ORCH_LOCAL_TASK": f"{key.token}/{key.index}", "PATH": os.environ["PATH"]},
        start_new_session=True,
    )
    process.signal(signal.SIGKILL)

    wait_for(cluster, key, list(OVER))

    assert orphan.wait(timeout=5) == -signal.SIGKILL


def test_a_stranger_with_the_launchers_pid_is_never_signalled(cluster: Cluster, home: Path) -> None:
    """The pid was given to somebody else: neither notice nor kill may reach them."""
    (key,) = submit(cluster, SPECS[:1])
    wait_for(cluster, key, [TaskState.RUNNING])
    wait_until(lambda: task_of(home, key).launch() is not None)
    launch = StateDir(home).submission(key.token).launch(0)
    own = task_of(home, key).launch().process()
    stranger = subprocess.Popen(["sleep", "60"], start_new_session=True)
    try:
        report = json.loads(launch.read_text())
        report["identity"]["pid"] = stranger.pid  # its start time is another
        own.signal(signal.SIGKILL)
        launch.write_text(json.dumps(report))

        assert cluster.scheduler.notify(key) is not None
        cluster.scheduler.kill(key)
        wait_for(cluster, key, list(OVER))

        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_after_a_reboot_the_task_is_lost_and_nothing_is_signalled(home: Path) -> None:
    """Another boot id: all its processes are gone, whoever has their pids now."""
    cluster = local_cluster(home)
    (key,) = submit(cluster, SPECS[:1])
    task = task_of(home, key)
    task.write(StartRecord(boot_id="the-boot-before", at=time.time(), tries=1))
    bystander = subprocess.Popen(
        ["sleep", "60"], env={"ORCH_LOCAL_TASK": f"{key.token}/0", "PATH": os.environ["PATH"]}
    )
    try:
        end = wait_for(cluster, key, list(OVER))

        assert end.state is TaskState.NODE_FAIL
        assert "restarted" in end.reason
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_a_start_that_nobody_answers_for_is_tried_again_then_given_up(
    home: Path, tmp_path: Path
) -> None:
    """A launcher that cannot be run at all ends as a launch failure with its output named."""
    cluster = local_cluster(home, launch_argv=("/bin/sh", "-c", "kill -9 $$"))
    (key,) = submit(cluster, SPECS[:1])

    end = wait_for(cluster, key, list(OVER))

    assert end.state is TaskState.LAUNCH_FAILED
    assert "launch.00000.out" in end.reason


def test_an_exit_code_without_a_record_is_still_known_of_an_own_child(home: Path) -> None:
    """A launcher that leaves with 78 before its record is a configuration error, not a retry."""
    cluster = local_cluster(home, launch_argv=("/bin/sh", "-c", "exit 78"))
    (key,) = submit(cluster, SPECS[:1])

    end = wait_for(cluster, key, list(OVER))

    assert (end.state, end.exit_code) == (TaskState.FAILED, 78)


def test_a_time_limit_ends_a_task(home: Path) -> None:
    """TERM at the limit, TIMEOUT in the end."""
    cluster = local_cluster(home)
    request = request_for(cluster, SPECS[:1])
    cluster.scheduler.submit(request)
    key = TaskKey(token=request.token, scheduler_id=request.token, index=0)
    wait_for(cluster, key, [TaskState.RUNNING])
    task = task_of(home, key)
    wait_until(lambda: task.launch() is not None)
    start = task.started()
    task.write(start.model_copy(update={"at": start.at - 6 * 60}))

    assert wait_for(cluster, key, list(OVER)).state is TaskState.TIMEOUT


def test_a_worker_that_ignores_its_cancel_is_killed_after_its_grace(home: Path) -> None:
    """TERM first; KILL when the grace of the submission is over."""
    write_plan(home, SPECS, seconds_per_step=5, ignore_term=True)
    cluster = local_cluster(home)
    request = request_for(cluster, SPECS[:1])
    fields = {f: getattr(request, f) for f in request.__slots__}
    cluster.scheduler.submit(type(request)(**fields | {"grace_seconds": 0.3}))
    key = TaskKey(token=request.token, scheduler_id=request.token, index=0)
    wait_for(cluster, key, [TaskState.RUNNING])
    wait_until(lambda: task_of(home, key).launch() is not None)

    cluster.scheduler.cancel([key])

    end = wait_for(cluster, key, list(OVER))
    assert (end.state, end.by_person) == (TaskState.CANCELLED, True)


def test_no_zombies_are_left(cluster: Cluster) -> None:
    """The scheduler reaps what it started."""
    keys = submit(cluster, SPECS[:2])
    for key in keys:
        wait_for(cluster, key, [TaskState.COMPLETED])
    cluster.scheduler.observe([])

    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_the_environment_of_a_task_has_no_secrets(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what a training needs from its user's session is passed on."""
    monkeypatch.setenv("WANDB_API_KEY", "secret")
    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.setenv("HF_HOME", "/cache")
    cluster = local_cluster(home, launch_argv=("/bin/sh", "-c", "env; exit 1"))
    (key,) = submit(cluster, SPECS[:1])
    wait_for(cluster, key, list(OVER))

    printed = StateDir(home).submission(key.token).output(0).read_text()

    assert "secret" not in printed
    assert "HF_HOME=/cache" in printed


def test_what_is_over_is_remembered_by_a_new_scheduler(home: Path) -> None:
    """The end of a task outlives the process that saw it."""
    (key,) = submit(local_cluster(home), SPECS[:1])
    end = wait_for(local_cluster(home), key, list(OVER))

    fresh = local_cluster(home)

    assert look(fresh, key) == end
    assert isinstance(task_of(home, key).ended(), EndRecord)
