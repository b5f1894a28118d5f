"""`orch nodes`, and where else a node that is kept off is named."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from orchestrator.database import Database
from tests.unit.cli.test_control import local_state

Orch = Callable[..., Any]


def keep_off(home: Path, node: str, *, why: str = "3 jobs died on it: launch: exit 1") -> None:
    """Make up an exclusion for half an hour."""
    database = Database(home / "orch.sqlite3")
    now = time.time()
    with database.writing(database.take_lease()):
        values = {"node": node, "why": why, "since": now, "until": now + 1800}
        database.run("exclusion_add", values)
    database.close()


def test_a_node_that_is_kept_off_is_named_everywhere(orch: Orch, home: Path) -> None:
    """Who, why, until when: in `nodes`, `status` and `doctor`."""
    local_state(home, {1: "COMPLETED"})
    assert "no node is kept off" in orch("nodes").err
    keep_off(home, "n17", why="a job died on it:\x1b[2J bad")

    for verb in ("nodes", "status", "doctor"):
        said = orch(verb)
        assert "n17 is kept off for 30 min more" in " ".join(said.out.split()), verb
        assert "\x1b[2J" not in said.out
    (row,) = orch("nodes", "--json").document["kept_off"]
    assert row["node"] == "n17"


def test_forgiving_is_a_wish_that_is_carried_out(orch: Orch, home: Path) -> None:
    """The next tick has no strikes of it; what is no node's name is wrong usage."""
    local_state(home, {1: "COMPLETED"})
    keep_off(home, "n17")

    said = orch("nodes", "--forgive", "n17", "--json")

    assert said.code == 0
    assert said.document["forgiven"] == ["n17"]
    assert orch("nodes", "--json").document["kept_off"] == []
    wrong = orch("nodes", "--forgive", "n1;rm")
    assert wrong.code == 2
    assert "n1;rm" in wrong.err
