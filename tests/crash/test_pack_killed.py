"""The orchestrator is killed while it ends one cell of a packed allocation."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.contract.command_verbs import ORCH
from tests.contract.packed_verbs import Pack, claims, metrics

pytestmark = pytest.mark.crash


def test_a_cell_dropped_before_a_kill_ends_and_its_neighbour_goes_on(tmp_path: Path) -> None:
    """The wish is durable, the cell was not told: whoever ticks next tells it, and it alone."""
    pack = Pack(tmp_path, backend="local", cells=2)
    pack.submit()
    first, second = pack.all_at_five()

    killed = subprocess.run(
        [str(ORCH), "cancel", "--yes", second["id"]],
        env={**pack.env, "ORCH_FAULT": "packs.dropped:kill"},
        cwd=pack.root,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert killed.returncode == -9, killed.stderr
    pack.wait(lambda rows: rows[1]["state"] == "CANCELLED", "the cell that was dropped")
    pack.let_go(1)
    rows = pack.wait(lambda rows: rows[0]["state"] == "COMPLETED", "its neighbour's result")

    assert [row["attempts"] for row in rows] == [1, 1]
    (claim,) = claims(pack.job(first["id"]))
    assert {claim.token} == {task.token for task in pack.tasks()}
    assert metrics(pack.job(first["id"]))["seed"] == 1.0
