"""A SIGKILL on the local backend: the kernel's for want of memory, or somebody's."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from orchestrator.classification import classify
from orchestrator.facts import EndClass
from orchestrator.schedulers.base import OVER, Known, TaskState
from orchestrator.schedulers.local import LocalScheduler
from tests.contract.scheduler_contract import Cluster, submit, wait_for
from tests.contract.stub import make_spec

LAUNCHER = Path(__file__).with_name("killed_launcher.py")
LIMIT_BYTES = 160 << 20  # the launcher needs 50 MB of it


def end_of(home: Path, killer: str, place: Path) -> Known:
    """Return how a task ends whose rank is killed so."""
    argv = (sys.executable, "-P", str(LAUNCHER), killer, str(place))
    cluster = Cluster(home=home, scheduler=LocalScheduler(home, cpus=1, gpus=(), launch_argv=argv))
    (key,) = submit(cluster, [make_spec(1)])
    return wait_for(cluster, key, list(OVER))


def meaning(end: Known) -> EndClass:
    """Return the class of an attempt that ended so and left no record."""
    return classify(end, (), asked=None, claimed=True).end_class


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A fake host whose counter stands at 3."""
    root = tmp_path / "host"
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text("0::/job\n")
    (root / "proc/self/mountinfo").write_text("30 1 0:26 / /cg rw - cgroup2 cgroup2 rw\n")
    (root / "cg/job").mkdir(parents=True)
    (root / "cg/job/memory.events").write_text("oom 0\noom_kill 3\n")
    return root


@pytest.mark.parametrize(
    ("killer", "who"), [("kernel", "rank 0 was"), ("launcher", "its launcher was")]
)
def test_a_kill_that_the_kernel_counted_is_a_want_of_memory(
    tmp_path: Path, place: Path, killer: str, who: str
) -> None:
    """No node is to blame. Also when the launcher could not say so any more."""
    end = end_of(tmp_path / "home", killer, place)

    assert end.state is TaskState.OUT_OF_MEMORY
    assert end.reason == f"{who} killed by the kernel: out of memory (oom_kill +1)"
    assert meaning(end) is EndClass.HOST_OOM


def test_a_kill_that_the_kernel_did_not_count_is_somebodys(tmp_path: Path, place: Path) -> None:
    """More memory would not help."""
    end = end_of(tmp_path / "home", "somebody", place)

    assert end.state is TaskState.FAILED
    assert end.reason.startswith("rank 0 was killed by somebody: the kernel's oom_kill counter")
    assert meaning(end) is EndClass.NODE


def test_a_kill_where_nobody_counts_may_be_either(tmp_path: Path, place: Path) -> None:
    """What is not known is said, and not acted on."""
    (place / "cg/job/memory.events").unlink()

    end = end_of(tmp_path / "home", "somebody", place)

    assert end.reason == "rank 0 was killed (out of memory or by somebody)"
    assert meaning(end) is EndClass.NODE


def make_cgroup() -> Path | None:
    """Make a memory cgroup of the real kernel with a small limit, beside everybody else's."""
    v1, v2 = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
    places = (
        (v1, "memory.limit_in_bytes", "memory.swappiness"),
        (v2, "memory.max", "memory.swap.max"),
    )
    for root, limit, swap in places:
        path = root / f"orch-test-{os.getpid()}"
        try:
            path.mkdir()
        except OSError:
            continue
        try:
            (path / "cgroup.procs").read_bytes()  # none where this is no cgroup file system
            (path / limit).write_text(str(LIMIT_BYTES))
        except OSError:
            path.rmdir()
            continue
        with suppress(OSError):  # else it would swap for a long time
            (path / swap).write_text("0")
        return path
    return None


@pytest.fixture
def cgroup() -> Iterator[Path]:
    """A small cgroup; skipped where none can be made."""
    path = make_cgroup()
    if path is None:
        pytest.skip("no memory cgroup can be made here (it takes root)")
    yield path
    path.rmdir()


def test_a_rank_that_the_real_kernel_kills_is_told_from_a_node_failure(
    tmp_path: Path, cgroup: Path
) -> None:
    """The whole way: limit, out-of-memory killer, counter, launcher, scheduler."""
    end = end_of(tmp_path / "home", "memory", cgroup)

    assert end.state is TaskState.OUT_OF_MEMORY
    assert end.reason == "rank 0 was killed by the kernel: out of memory (oom_kill +1)"
