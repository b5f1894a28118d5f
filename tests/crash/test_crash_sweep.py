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
NEEDS_STRACE = pytest.mark.skipif(
    shutil.which("strace") is None, reason="needs strace (apt install strace)"
)

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


@NEEDS_STRACE
def test_any_system_call_may_fail_or_be_the_last() -> None:
    """A sample of every write, fsync, rename, link, unlink and mkdir of both ranks."""
    code, counts, violations = sweep("system_calls", "--sample", "12")

    assert code == 0, violations
    assert counts["of"] > 200
    assert counts["injections"] == 12


@NEEDS_STRACE
@pytest.mark.parametrize(("scenario", "each"), [("save", "24"), ("first-again", "16")])
def test_a_power_cut_after_any_call_loses_nothing_that_was_said_to_be_saved(
    scenario: str, each: str
) -> None:
    """What was not fsynced is gone, torn or there; names come in any order; the rest is whole.

    "first-again": an attempt was killed between the mkdir of `checkpoints` and its fsync; what the
    next one commits below must not vanish with that name.
    """
    code, counts, violations = sweep("power_cut", "--scenario", scenario, "--each", each)

    assert code == 0, violations
    assert counts["states"] > 20


@NEEDS_STRACE
@pytest.mark.parametrize("bug", ["no_fsync_of_files", "no_fsync_of_directories"])
def test_a_power_cut_finds_a_missing_fsync(bug: str) -> None:
    """Without fsyncs of files, or of directories, something is lost, and is found to be."""
    code, counts, violations = sweep(
        "power_cut", "--scenario", "save", "--each", "1000", "--plant", bug
    )

    assert code == 1
    assert counts["violations"] >= 1, violations


@pytest.mark.parametrize("bug", sorted(BUGS))
def test_the_sweep_finds_a_planted_bug(bug: str) -> None:
    """A check that cannot fail proves nothing."""
    code, counts, violations = sweep(
        "crash_sweep", "--plant", bug, "--only", SHOWS[bug], "--sample", "8"
    )

    assert code == 1
    assert counts["violations"] >= 1, violations
