"""Samples of the sweeps of `scripts/proofs/checkpoint-crash`, and proof that they can fail."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from typing import Any

import pytest

from checkpoints.fault_points import FAULT_POINTS
from tests.crash.planted import BUGS

pytestmark = pytest.mark.crash

# Where each planted bug would show.
SHOWS = {
    "no_fence": "pause",
    "commit_file_by_file": "publish_dir.before_rename[rank=0]:kill",
    "delete_in_place": "prune.after_rename[rank=0]:errno",
    "keep_one": "commit.after_rename",
    "say_it_too_early": "publish_dir.before_rename[rank=0]:errno",
}


def sweep(module: str, *arguments: str) -> tuple[int, dict[str, Any], list[str]]:
    """Run a sweep in a process of its own; return exit code, counts and violations."""
    command = [sys.executable, "-m", f"tests.crash.{module}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode in (0, 1), done.stderr
    return done.returncode, json.loads(done.stdout), done.stderr.split("\n")


def test_any_fault_at_any_point_leaves_the_previous_or_the_new_checkpoint() -> None:
    """A sample with every fault point: killed, stopped, paused, out of space, EIO."""
    code, counts, violations = sweep("crash_sweep", "--sample", "45", "--seed", "1")

    assert code == 0, violations
    assert counts["points"] >= len(FAULT_POINTS)
    assert counts["violations"] == 0


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace (apt install strace)")
def test_any_system_call_may_fail_or_be_the_last() -> None:
    """A sample of every write, fsync, rename, link, unlink and mkdir of both ranks."""
    code, counts, violations = sweep("system_calls", "--sample", "12")

    assert code == 0, violations
    assert counts["of"] > 200
    assert counts["injections"] == 12


@pytest.mark.parametrize("bug", sorted(BUGS))
def test_the_sweep_finds_a_planted_bug(bug: str) -> None:
    """A check that cannot fail proves nothing."""
    code, counts, violations = sweep(
        "crash_sweep", "--plant", bug, "--only", SHOWS[bug], "--sample", "8"
    )

    assert code == 1
    assert counts["violations"] >= 1, violations
