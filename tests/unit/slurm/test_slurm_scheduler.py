"""The scheduler against commands that lie, hang or fail: it never acts on ignorance."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.schedulers import slurm_commands, slurm_queries
from orchestrator.schedulers.base import Absent, Found, Known, TaskKey, TaskState, Unreachable
from orchestrator.schedulers.slurm import SlurmScheduler, soonest_begin
from tests.unit.slurm.command_stubs import CommandStubs
from tests.unit.slurm.requests import TOKEN

KEY = TaskKey(token=TOKEN, scheduler_id="7", index=0)
NAME = f"orch:{TOKEN}"

# Prints rows in the format that it is asked for, as squeue does.
SQUEUE = r"""
for word in "$@"; do case "$word" in
    --format=*) format="${word#--format=}" ;;
esac; done
row() {
    printf '%s\n' "$format" | sed \
        -e "s/%F/$1/" -e "s/%K/$2/" -e "s/%T/$3/" -e "s/%r/$4/" -e "s/%N/n1/" \
        -e "s/%V/2026-11-23T00:00:59/" -e "s/%j/$5/" -e "s/%k/$5 quick/"
}
"""
SACCT = r"""
for word in "$@"; do case "$word" in --delimiter=*) d="${word#--delimiter=}" ;; esac; done
row() { printf '%s\n' "$1$d$2$d$3$d$4$d${6-n1}$d$7$d$8$d$5"; }
"""


@pytest.fixture
def scheduler(tmp_path: Path) -> SlurmScheduler:
    """A scheduler over whatever is on PATH."""
    return SlurmScheduler(tmp_path)


def test_a_running_task_costs_one_query(commands: CommandStubs, scheduler: SlurmScheduler) -> None:
    """sacct is asked only for what the queue cannot answer."""
    commands.write("squeue", SQUEUE + f"row 7 0 RUNNING None {NAME}")
    commands.write("sacct", "exit 1")

    assert scheduler.observe([KEY]).answers == {KEY: Known(state=TaskState.RUNNING, nodes="n1")}
    assert commands.calls("sacct") == []


def test_a_finished_task_costs_two_queries(
    commands: CommandStubs, scheduler: SlurmScheduler
) -> None:
    """One squeue and one sacct for all of them."""
    other = TaskKey(token=TOKEN, scheduler_id="7", index=1)
    commands.write("squeue", SQUEUE + f"row 7 1 FAILED NonZeroExitCode {NAME}")
    commands.write(
        "sacct",
        SACCT
        + f"row 7_0 COMPLETED 0:0 2026-01-01T00:00:00 {NAME}\n"
        + f"row 7_1 FAILED 75:0 2026-01-01T00:00:00 {NAME}",
    )

    answers = scheduler.observe([KEY, other]).answers

    assert answers[KEY] == Known(state=TaskState.COMPLETED, nodes="n1", exit_code=0)
    assert isinstance(answers[other], Known)
    assert answers[other].exit_code == 75
    assert len(commands.calls("squeue")) == len(commands.calls("sacct")) == 1


LIES = [
    "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1",
    "echo 'squeue: error: Socket timed out' >&2; exit 0",
    "echo banner",
    "printf 'half a row'",
    "printf '\\377\\376\\000'",
    "kill -KILL $$",
    "exit 127",
]


@pytest.mark.parametrize("lie", LIES)
def test_a_queue_that_cannot_be_believed_changes_nothing(
    commands: CommandStubs, scheduler: SlurmScheduler, lie: str
) -> None:
    """Every answer is Unreachable, and so is the look as a whole; nothing is cancelled."""
    commands.write("squeue", lie)
    commands.write("sacct", SACCT + f"row 7_0 FAILED 1:0 2026 {NAME}")
    commands.write("scancel", "exit 0")
    commands.write("scontrol", "exit 0")

    observation = scheduler.observe([KEY])

    assert observation.unreachable
    assert isinstance(observation.answers[KEY], Unreachable)
    assert isinstance(scheduler.find(TOKEN), Unreachable)
    assert scheduler.cancel([KEY])[KEY] is not None
    assert scheduler.notify(KEY) is not None
    assert scheduler.kill(KEY) is not None
    assert scheduler.undelay([KEY])[KEY] is not None
    assert commands.calls("scancel") == commands.calls("scontrol") == []


@pytest.mark.parametrize("lie", LIES)
def test_accounting_that_cannot_be_believed_is_no_evidence_of_absence(
    commands: CommandStubs, scheduler: SlurmScheduler, lie: str
) -> None:
    """The task is unreachable, not absent; the listing as a whole was good."""
    commands.write("squeue", "true")
    commands.write("sacct", lie)

    observation = scheduler.observe([KEY])

    assert observation.unreachable is None
    assert isinstance(observation.answers[KEY], Unreachable)
    assert isinstance(scheduler.find(TOKEN), Unreachable)


def test_without_accounting_the_queue_alone_decides(
    commands: CommandStubs, scheduler: SlurmScheduler
) -> None:
    """Some clusters keep none."""
    commands.write("squeue", "true")
    commands.write("sacct", "echo 'Slurm accounting storage is disabled' >&2; exit 1")

    assert scheduler.observe([KEY]).answers == {KEY: Absent()}
    assert scheduler.find(TOKEN) == Found(scheduler_ids=())


def test_a_hanging_command_is_ended(
    commands: CommandStubs, scheduler: SlurmScheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stopped controller must not stop us."""
    monkeypatch.setattr(slurm_queries, "QUERY_SECONDS", 0.2)
    commands.write("squeue", "sleep 60")
    started = time.monotonic()

    assert scheduler.observe([KEY]).unreachable
    assert time.monotonic() - started < 5


def test_endless_output_is_cut(
    commands: CommandStubs, scheduler: SlurmScheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory is bounded."""
    monkeypatch.setattr(slurm_commands, "MAX_OUTPUT_BYTES", 1 << 20)
    commands.write("squeue", "yes")

    observation = scheduler.observe([KEY])

    assert "bytes of output" in str(observation.unreachable)


def test_a_stranger_with_our_id_is_never_cancelled(
    commands: CommandStubs, scheduler: SlurmScheduler
) -> None:
    """The token does not match: nothing is done, and nothing of ours is left there."""
    commands.write("squeue", SQUEUE + "row 7 0 RUNNING None somebody")
    commands.write("scancel", "exit 0")
    commands.write("scontrol", "exit 0")

    assert scheduler.cancel([KEY]) == {KEY: None}
    assert scheduler.notify(KEY) is not None
    assert scheduler.undelay([KEY]) == {KEY: None}
    assert commands.calls("scancel") == commands.calls("scontrol") == []


def test_cancel_forbids_the_requeue_first_and_names_tasks(
    commands: CommandStubs, scheduler: SlurmScheduler
) -> None:
    """A rank that saves after scancel leaves with 75: its script must not undo the cancel."""
    keys = [TaskKey(token=TOKEN, scheduler_id="7", index=index) for index in (0, 1, 2, 5)]
    rows = "\n".join(f"row 7 {key.index} RUNNING None {NAME}" for key in keys)
    commands.write("squeue", SQUEUE + rows)
    commands.write("scancel", "exit 0")
    commands.write("scontrol", "exit 0")

    assert set(scheduler.cancel(keys).values()) == {None}
    assert commands.calls("scontrol") == ["update JobId=7_[0-2,5] Requeue=0"]
    assert commands.calls("scancel") == ["7_0 7_1 7_2 7_5"]


def test_a_change_that_some_tasks_of_an_array_refuse_is_done_to_the_others(
    commands: CommandStubs, scheduler: SlurmScheduler
) -> None:
    """scontrol leaves with 1 and says of each task how it went."""
    keys = [TaskKey(token=TOKEN, scheduler_id="7", index=index) for index in range(4)]
    rows = "\n".join(f"row 7 {index} PENDING Priority {NAME}" for index in range(4))
    commands.write("squeue", SQUEUE + rows)
    said = "7_0: Job is no longer pending execution\n7_1-2: No error"
    commands.write("scontrol", f"printf '{said}\\n' >&2; exit 1")

    problems = scheduler.exclude(keys, ("n1",))

    assert problems[keys[0]] == "scontrol: Job is no longer pending execution"
    assert problems[keys[1]] is None
    assert problems[keys[2]] is None
    assert problems[keys[3]] is not None  # nothing was said of it


def test_undelay_touches_delayed_tasks_only(
    commands: CommandStubs, scheduler: SlurmScheduler
) -> None:
    """The array form, never the raw id: that would address every sibling."""
    waiting = TaskKey(token=TOKEN, scheduler_id="7", index=1)
    rows = f"row 7 0 RUNNING None {NAME}\nrow 7 1 PENDING BeginTime {NAME}"
    commands.write("squeue", SQUEUE + rows)
    commands.write("scontrol", "exit 0")

    assert scheduler.undelay([KEY, waiting]) == {KEY: None, waiting: None}
    assert commands.calls("scontrol") == ["update JobId=7_[1] StartTime=2026-11-23T00:01:02"]


def test_a_begin_time_is_a_moment_after_the_requeue() -> None:
    """Not `now`: in the second of the requeue the node still refuses the task."""
    assert soonest_begin("2026-12-31T23:59:58") == "2027-01-01T00:00:01"
    assert soonest_begin("N/A") == "now+3"


def test_kill_signals_steps_and_never_the_job(
    commands: CommandStubs, scheduler: SlurmScheduler
) -> None:
    """`scancel --signal=KILL JOB` would cancel the job for good (measured)."""
    commands.write(
        "squeue",
        f'case "$*" in *--steps*) echo 7_0.0; echo 7_0.batch; exit;; esac\n{SQUEUE}'
        f"row 7 0 RUNNING None {NAME}",
    )
    commands.write("scancel", "exit 0")

    assert scheduler.kill(KEY) is None
    assert commands.calls("scancel") == ["--signal=KILL 7_0.0"]


def test_find_returns_every_job_with_the_token(
    commands: CommandStubs, scheduler: SlurmScheduler
) -> None:
    """Oldest first: the caller adopts one and cancels the surplus."""
    rows = (
        f"row 12 0 RUNNING None {NAME}\nrow 12 1 RUNNING None {NAME}\nrow 9 0 PENDING None {NAME}"
    )
    commands.write("squeue", SQUEUE + rows)

    assert scheduler.find(TOKEN) == Found(scheduler_ids=("9", "12"))


def test_find_looks_into_accounting_when_the_queue_is_empty(
    commands: CommandStubs, scheduler: SlurmScheduler
) -> None:
    """A short job may be over before anybody looked."""
    commands.write("squeue", "true")
    commands.write("sacct", SACCT + f"row 9_0 COMPLETED 0:0 2026 {NAME}\nrow 8_0 FAILED 1:0 2026 x")

    assert scheduler.find(TOKEN) == Found(scheduler_ids=("9",))


@given(output=st.binary(max_size=200))
@settings(
    deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_no_output_of_squeue_raises(
    commands: CommandStubs, scheduler: SlurmScheduler, tmp_path: Path, output: bytes
) -> None:
    """Whatever it prints, observing returns answers for all keys."""
    (tmp_path / "output").write_bytes(output)
    commands.write("squeue", f"cat {tmp_path}/output")
    commands.write("sacct", f"cat {tmp_path}/output")

    observation = scheduler.observe([KEY])

    assert set(observation.answers) == {KEY}
    assert not isinstance(observation.answers[KEY], Known)
