"""Sixty cells under MaxSubmit=7, watched by a Slurm job that is one of the seven.

    scripts/proof limits [--cells 60] [--max-submit 7]        # as root, some minutes

Account and QOS are enforced by a real Slurm. One `orch submit`, one `orch watch --as-job`, and no
command after. Then: every cell has its result after one attempt, refusals charged none, Slurm never
had more tasks than it allows, and the watcher has left by itself. Before: a wrong account and a
wrong QOS are refused before the first submission, with the key of site.yaml.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.slurm.audit import audit
from tests.slurm.limited_cluster import SITE, Crowd, sbatch_calls, start_limited
from tests.slurm.private_cluster import clear, slurm, until
from tests.slurm.stub_matrix import ORCH, StubMatrix

STEPS, SECONDS_PER_STEP = 10, 0.5


def refused_names(root: Path) -> list[str]:
    """Submit with wrong names; return what was said, one line each. Raises AssertionError."""
    lines = []
    for key in ("account", "qos"):
        site = {**SITE, key: "nosuch"}
        matrix = StubMatrix(root / key, name="wrong", jobs=3, steps=1, site=site)
        said = matrix.submit()
        assert said.returncode != 0, said.stdout + said.stderr
        assert f"`{key}`" in said.stderr, said.stderr
        assert "site.yaml" in said.stderr, said.stderr
        assert not matrix.state.submissions.exists()
        assert not sbatch_calls(matrix)
        assert {row["state"] for row in matrix.rows()} == {"HELD"}
        lines.append(next(line for line in said.stderr.splitlines() if f"`{key}`" in line))
    return lines


def run_dry(root: Path, cells: int, max_submit: int) -> str:
    """Run the matrix to its end; return the figures as Markdown. Raises AssertionError."""
    site = {**SITE, "watcher": {"memory_mb": 200}}
    matrix = StubMatrix(
        root, name="limits", jobs=cells, steps=STEPS, site=site, seconds_per_step=SECONDS_PER_STEP
    )
    crowd = Crowd()
    started = time.monotonic()
    with crowd.counted():
        said = matrix.submit()
        assert said.returncode == 0, said.stdout + said.stderr
        words = [str(ORCH), "watch", "--as-job"]
        watched = subprocess.run(
            words, env=matrix.environment(), capture_output=True, text=True, timeout=300
        )
        assert watched.returncode == 0, watched.stderr
        # files alone: `orch status` would look at Slurm and help where nobody shall help
        until(
            lambda: all(job.result.exists() for job in matrix.jobs()),
            "all results",
            seconds=30 * cells,
            every=1.0,
        )
        results = time.monotonic() - started
        until(lambda: not slurm("squeue", "-h").strip(), "the watcher to leave", seconds=180)
        left = time.monotonic() - started
    calls, rows = sbatch_calls(matrix), matrix.rows()
    found = audit(matrix.jobs(), steps=STEPS)
    assert found.violations == []
    assert {(row["state"], row["attempts"]) for row in rows} == {("COMPLETED", 1)}
    assert len(rows) == found.attempts == cells
    assert crowd.most <= max_submit
    figures = {
        "results": f"{found.results} of {cells}",
        "published twice": found.published - found.results,
        "attempts": found.attempts,
        "attempts charged for refusals": sum(row["attempts"] for row in rows) - cells,
        "sbatch accepted": calls["accepted"],
        "sbatch refused": calls["refused"],
        "most tasks at once": f"{crowd.most} of {max_submit}",
        "last result": f"{results:.0f} s",
        "watcher gone": f"{left:.0f} s",
    }
    return (
        f"{watched.stderr.strip()}\n\n| {' | '.join(figures)} |\n{'|---' * len(figures)}|\n"
        f"| {' | '.join(map(str, figures.values()))} |"
    )


def main(words: list[str]) -> int:
    """Run the proof; print its figures; an assertion that fails ends it with a traceback."""
    parser = argparse.ArgumentParser(prog="scripts/proof limits", description=__doc__)
    parser.add_argument("--cells", type=int, default=60)
    parser.add_argument("--max-submit", type=int, default=7)
    given = parser.parse_args(words)
    start_limited(given.max_submit)
    root = Path(tempfile.mkdtemp(prefix="orch-limits-"))
    try:
        for line in refused_names(root):
            print(f"refused before the first submission: {line.strip()}")
        print(run_dry(root / "sixty", given.cells, given.max_submit))
    except BaseException:
        print(f"state directories: {root}", file=sys.stderr)
        raise
    finally:
        clear()
    shutil.rmtree(root)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
