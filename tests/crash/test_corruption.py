"""A sample of `scripts/proofs/corruption`, and proof that it can fail."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from tests.crash.damages import KINDS


def corruption(*arguments: str) -> tuple[int, dict[str, Any], str]:
    """Run it in a process of its own; return exit code, counts and what was wrong."""
    command = [sys.executable, "-m", "tests.crash.corruption", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode in (0, 1), done.stderr
    return done.returncode, json.loads(done.stdout), done.stderr


def test_every_damage_is_found_named_and_put_away() -> None:
    """Flips, holes, truncations, swaps, lost and extra files, links, edited manifests."""
    code, counts, wrong = corruption("--cases", str(5 * len(KINDS)), "--seed", "7")

    assert code == 0, wrong
    assert set(counts["by_damage"]) == {kind.__name__ for kind in KINDS}
    assert counts["tensor_files_that_safetensors_loads"]["yes"] > 0  # nobody else would notice


def test_without_comparing_contents_it_fails() -> None:
    """A check that cannot fail proves nothing."""
    code, counts, _ = corruption("--cases", "20", "--blind")

    assert code == 1
    assert counts["violations"] > 0
