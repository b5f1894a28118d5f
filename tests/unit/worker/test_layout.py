"""Rank layout from srun's or the local launcher's environment."""

from __future__ import annotations

import pytest

from worker.layout import BadLayout, expand_hosts, read_layout

SLURM = {
    "SLURM_JOB_ID": "1003",
    "SLURM_ARRAY_JOB_ID": "1001",
    "SLURM_ARRAY_TASK_ID": "7",
    "SLURM_PROCID": "5",
    "SLURM_NTASKS": "8",
    "SLURM_LOCALID": "1",
    "SLURM_JOB_NODELIST": "n[1-4]",
    "SLURM_RESTART_COUNT": "2",
    "SLURM_STEP_ID": "0",
}


def test_an_array_task_of_several_nodes() -> None:
    """The array's id and the task's number identify it, not the raw job id."""
    layout = read_layout(SLURM)

    assert (layout.rank, layout.world_size, layout.local_rank) == (5, 8, 1)
    assert layout.hosts == ("n1", "n2", "n3", "n4")
    assert not layout.one_node
    assert (layout.scheduler_id, layout.array_task, layout.index) == ("1001", 7, 7)
    assert (layout.restart_count, layout.launch_id, layout.port_seed) == (2, "step-0", 1003)


def test_a_single_job_has_index_0() -> None:
    """Without an array there is one task."""
    env = {key: value for key, value in SLURM.items() if "ARRAY" not in key}
    layout = read_layout(env | {"SLURM_JOB_NODELIST": "n2"})

    assert (layout.scheduler_id, layout.array_task, layout.index) == ("1003", None, 0)
    assert layout.one_node


def test_the_steps_size_wins_over_the_jobs() -> None:
    """A script may start fewer ranks than the job has tasks."""
    assert read_layout(SLURM | {"SLURM_STEP_NUM_TASKS": "6"}).world_size == 6


def test_the_local_launcher_wins_inside_an_allocation() -> None:
    """`orch` started in an salloc shell launches its own ranks."""
    env = SLURM | {"ORCH_RANK": "1", "ORCH_WORLD_SIZE": "2", "ORCH_LAUNCH_ID": "abc"}
    layout = read_layout(env)

    assert (layout.rank, layout.world_size, layout.scheduler_id) == (1, 2, None)
    assert layout.one_node
    assert layout.launch_id == "abc"


def test_nothing_said_means_one_rank() -> None:
    """`python -P -m worker --submission DIR` by hand works."""
    layout = read_layout({}, index=4)

    assert (layout.rank, layout.world_size, layout.index) == (0, 1, 4)


@pytest.mark.parametrize(
    ("env", "name"),
    [
        ({"ORCH_RANK": "two"}, "ORCH_RANK"),
        ({"ORCH_RANK": "2", "ORCH_WORLD_SIZE": "2"}, "rank 2"),
        ({"ORCH_RANK": "-1"}, "ORCH_RANK"),
        (SLURM | {"SLURM_JOB_ID": ""}, "SLURM_JOB_ID"),
        (SLURM | {"SLURM_ARRAY_TASK_ID": "4294967294"}, "SLURM_ARRAY_TASK_ID"),
    ],
)
def test_nonsense_is_refused_by_name(env: dict[str, str], name: str) -> None:
    """The message names the variable."""
    with pytest.raises(BadLayout, match=name):
        read_layout(env)


@pytest.mark.parametrize(
    ("expression", "hosts"),
    [
        ("n1", ["n1"]),
        ("n[1-3,07],login1", ["n1", "n2", "n3", "n07", "login1"]),
        ("gpu[008-010]", ["gpu008", "gpu009", "gpu010"]),
        ("r[1-2]n[1-2]", ["r1n1", "r1n2", "r2n1", "r2n2"]),
        ("a-b.c", ["a-b.c"]),
        ("", []),
    ],
)
def test_node_lists(expression: str, hosts: list[str]) -> None:
    """As `scontrol show hostnames` expands them."""
    assert list(expand_hosts(expression)) == hosts


@pytest.mark.parametrize("expression", ["n[1-3", "n]1", "n[a-b]", "n[]"])
def test_broken_node_lists_are_refused(expression: str) -> None:
    """Guessing a host would let ranks wait for nobody."""
    with pytest.raises(BadLayout, match="node list"):
        list(expand_hosts(expression))
