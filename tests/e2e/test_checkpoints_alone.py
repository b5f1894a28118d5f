"""The example of docs/checkpoints.md, killed on the way: it goes on where it was."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from checkpoints.simple import Checkpoints

pytestmark = pytest.mark.e2e
PAGE = Path(__file__).parents[2] / "docs" / "checkpoints.md"
WORK = 'print("step", step, flush=True)'


def run(script: Path, fault: str = "") -> subprocess.CompletedProcess[str]:
    """Run the script where it lies."""
    return subprocess.run(
        [sys.executable, script.name],
        cwd=script.parent,
        env={"ORCH_FAULT": fault, "PYTHONPATH": str(PAGE.parents[1])},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_the_example_resumes_after_a_kill(tmp_path: Path) -> None:
    """Killed while it commits the third checkpoint, it goes on after the second."""
    example = re.search(r"```python\n(import torch.*?)```", PAGE.read_text(), re.DOTALL)
    assert example
    assert len([line for line in example[1].splitlines() if "heckpoint" in line]) <= 10
    script = tmp_path / "train.py"
    script.write_text(example[1].replace("...  # train", WORK))

    killed = run(script, fault="commit.before_rename:kill@3")
    assert killed.returncode == -9
    assert "step 30" in killed.stdout

    resumed = run(script)

    assert resumed.returncode == 0, resumed.stderr
    assert resumed.stdout.splitlines()[0] == "step 21"
    loaded = Checkpoints(tmp_path / "checkpoints").load()
    assert loaded is not None
    assert loaded.step == 100
