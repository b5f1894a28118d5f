"""The kernel's count of processes killed for want of memory, wherever cgroups are mounted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from durable.oom_counter import OomCounter

V1 = "5:cpu:/\n4:memory:/jobs/a\n0::/\n"
V1_MOUNTS = (
    "35 31 0:32 / /cg/memory rw - cgroup cgroup rw,memory\n41 31 0:38 / /cg/u rw - cgroup2 c rw\n"
)
V2 = "0::/user/a\n"


def host(root: Path, cgroup: str, mounts: str, **files: str) -> Path:
    """Write a host; `files`: texts by path, with `__` for `/`."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(cgroup)
    (root / "proc/self/mountinfo").write_text("1 1 8:1 / / rw - ext4 /dev/sda rw\n" + mounts)
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_oom", ".oom").replace("_events", ".events")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_v1_counts_in_the_own_cgroup_of_the_memory_controller(tmp_path: Path) -> None:
    """Not in the root's, nor in that of another controller."""
    root = host(
        tmp_path,
        V1,
        V1_MOUNTS,
        cg__memory__jobs__a__memory_oom_control="oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
        cg__memory__memory_oom_control="oom_kill 9\n",
    )

    counter = OomCounter.own(root)

    assert counter is not None
    assert counter.kills == 2
    Path(counter.path).write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 5\n")
    assert counter.since() == 3


@pytest.mark.parametrize(
    ("mounts", "file"),
    [
        ("30 1 0:26 / /cg rw - cgroup2 cgroup2 rw\n", "cg__user__a__memory_events"),
        # no memory controller of its own: the one above it counts
        ("30 1 0:26 / /cg rw - cgroup2 cgroup2 rw\n", "cg__user__memory_events"),
        # a container shows a part of the hierarchy; a mount of another part comes first
        (
            "29 1 0:26 /else /o rw - cgroup2 c rw\n30 1 0:26 /user /c\\040g rw - cgroup2 c rw\n",
            "c g__a__memory_events",
        ),
    ],
)
def test_v2_counts_in_the_nearest_cgroup_with_a_memory_controller(
    tmp_path: Path, mounts: str, file: str
) -> None:
    """Delegated cgroups often have none."""
    root = host(tmp_path, V2, mounts, **{file: "low 0\noom 7\noom_kill 4\noom_group_kill 0\n"})

    counter = OomCounter.own(root)

    assert counter is not None
    assert counter.kills == 4


def test_where_nothing_can_be_read_nothing_is_known(tmp_path: Path) -> None:
    """Old kernels have no such line; some containers show no cgroups; a cgroup may be gone."""
    old = host(
        tmp_path / "old", V1, V1_MOUNTS, cg__memory__jobs__a__memory_oom_control="under_oom 0\n"
    )

    assert OomCounter.own(old) is None
    assert OomCounter.own(host(tmp_path / "bare", V2, "")) is None
    assert OomCounter.own(tmp_path / "nothing") is None
    assert OomCounter(path=str(tmp_path / "gone"), kills=1).since() is None
    assert OomCounter(path="\0", kills=1).since() is None


def test_a_counter_that_is_another_one_by_now_says_nothing(tmp_path: Path) -> None:
    """A cgroup of the same name was made anew: its count begins at 0."""
    file = tmp_path / "memory.events"
    file.write_text("oom_kill 0\n")

    assert OomCounter(path=str(file), kills=3).since() is None


def test_a_pipe_in_its_place_is_not_waited_for(tmp_path: Path) -> None:
    """The path comes from a record that a job could have written."""
    os.mkfifo(tmp_path / "memory.events")

    assert OomCounter(path=str(tmp_path / "memory.events"), kills=0).since() is None
