"""The ten properties of a checkpoint system that can be trusted: ours tested, peers beside it.

    scripts/proof properties [NUMBER…]        # about half an hour

Prints a table in Markdown; leaves with 1 when one of ours does not hold. Peers are only reported.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.properties import peers

Peer = Callable[[Path], str]


@dataclass(frozen=True, kw_only=True)
class Property:
    """What must hold, the tests that show it, and how a peer fares."""

    words: str
    tests: tuple[str, ...]
    peer: Peer | None = None


PROPERTIES = {
    1: Property(
        words="Killed at any point, a job goes on from its newest verified checkpoint by itself",
        tests=(
            "tests/crash/test_checkpoint_commit.py",
            "tests/crash/test_crash_sweep.py",
            "tests/e2e/test_crash_while_saving.py",
        ),
        peer=peers.killed_while_saving,
    ),
    2: Property(
        words="Every changed byte is noticed before any state is touched; the one before is taken",
        tests=("tests/crash/test_corruption.py", "tests/e2e/test_damaged_checkpoint.py"),
        peer=peers.flipped_bits,
    ),
    3: Property(
        words="A run that was stopped anywhere ends in the bits of one that was not",
        tests=("tests/e2e/test_exactness.py", "tests/e2e/test_bit_equality.py"),
        peer=peers.random_collator,
    ),
    4: Property(
        words="Whichever ranks hear of a preemption, and however late: one step, no hang",
        tests=(
            "tests/unit/worker/test_agreement.py",
            "tests/e2e/test_preempted_evaluation.py",
            "tests/e2e/test_hang_while_saving.py",
        ),
        peer=peers.partial_notice,
    ),
    5: Property(
        words="Saves know their deadline; too little grace is said before the first preemption",
        tests=(
            "tests/unit/worker/test_deadline.py",
            "tests/e2e/test_short_grace.py",
            "tests/e2e/test_learned_grace.py",
        ),
    ),
    6: Property(
        words="A verified checkpoint is there at every instant, also on a full disk",
        tests=(
            "tests/e2e/test_full_disk.py",
            "tests/unit/checkpoints/test_retention.py",
            "tests/unit/checkpoints/test_store_machine.py",
        ),
        peer=peers.full_disk,
    ),
    7: Property(
        words="What is missing or differs at a resume is refused by its name, or waived on record",
        tests=("tests/e2e/test_other_circumstances.py", "tests/unit/worker/test_continuity.py"),
        peer=peers.missing_part,
    ),
    8: Property(
        words="Each sample once, at its step, for any number of ranks; state is divided anew",
        tests=(
            "tests/e2e/test_elastic.py",
            "tests/unit/worker/test_order.py",
            "tests/unit/worker/test_other_ranks.py",
        ),
    ),
    9: Property(
        words="An old attempt that comes back can publish and delete nothing",
        tests=("tests/e2e/test_fencing.py", "tests/unit/checkpoints/test_fence.py"),
    ),
    10: Property(
        words="Written, durable and verified are told apart; what rots is demoted; no second lost",
        tests=(
            "tests/unit/checkpoints/test_damage.py",
            "tests/unit/checkpoints/test_inspection.py",
            "tests/e2e/test_goodput.py",
        ),
    ),
}
NO_PEER = "none was tried"


def run_ours(tests: tuple[str, ...]) -> tuple[bool, str]:
    """Run the tests; return whether all hold, and the figures."""
    command = [sys.executable, "-m", "pytest", "-q", "-n", "2", "--timeout=0", *tests]
    started = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    passed = re.search(r"(\d+) passed", done.stdout)
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    good = done.returncode == 0 and passed is not None
    said = f"{passed[1] if passed else 0} tests hold, {time.monotonic() - started:.0f} s"
    return good, said if good else f"VIOLATED: {'; '.join(failed) or done.stdout[-300:]}"


def run_peer(peer: Peer | None, root: Path) -> str:
    """Return what the peer did, or why it could not be asked."""
    if peer is None:
        return NO_PEER
    root.mkdir()
    try:
        return peer(root)
    except Exception as error:  # the peer's own trouble is no fault of ours
        return f"could not be run: {type(error).__name__}: {error}"


def main(words: list[str]) -> int:
    """Run the properties; return the exit code."""
    wanted = [int(word) for word in words] or list(PROPERTIES)
    held = True
    print("| # | property | orch | peer, in the same run |\n|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory(prefix="orch-properties-") as folder:
        for number in wanted:
            one = PROPERTIES[number]
            good, ours = run_ours(one.tests)
            held = held and good
            peer = run_peer(one.peer, Path(folder) / str(number))
            print(f"| {number} | {one.words} | {ours} | {peer} |", flush=True)
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
