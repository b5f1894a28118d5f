"""What lies in a state directory runs as us, so only we may have written it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from jobs.contract.paths import StateDir
from orchestrator.cli import session
from orchestrator.instance import StateRefused
from orchestrator.ownership import require_own
from orchestrator.service import Service
from tests.unit.orchestrator.world import World


def be_somebody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be another user than the owner of all files."""
    me = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: me + 1)


def test_a_directory_of_ours_and_one_that_does_not_exist_are_fine(world: World) -> None:
    """The usual case, and the first submission."""
    require_own(StateDir(world.home))
    require_own(StateDir(world.home / "none"))


def test_neither_looking_nor_acting_uses_somebody_elses_directory(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`orch status` in a stranger's directory would tick, and submit what the stranger wrote."""
    world.submit()
    world.service.close()
    be_somebody_else(monkeypatch)

    with pytest.raises(StateRefused, match="would run as you") as refused:
        Service.open(world.home)
    assert "ORCH_HOME" in refused.value.fix
    with pytest.raises(StateRefused):
        session.has_state(world.home)

    monkeypatch.setenv("ORCH_FOREIGN_STATE", "accept")
    assert session.has_state(world.home)


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
def test_a_directory_that_others_may_write_is_refused_and_no_variable_helps(
    world: World, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    """Reading by others is the owner's choice; writing is not."""
    monkeypatch.setenv("ORCH_FOREIGN_STATE", "accept")
    world.home.chmod(0o755)
    require_own(StateDir(world.home))
    world.home.chmod(mode)

    with pytest.raises(StateRefused, match="can be written by others") as refused:
        require_own(StateDir(world.home))
    assert f"chmod go-w {world.home}" in refused.value.fix


def test_a_database_that_was_put_into_our_directory_is_refused(
    world: World, tmp_path: Path
) -> None:
    """The directory alone says nothing of a file that was there before it became ours."""
    world.service.state.database.chmod(0o660)

    with pytest.raises(StateRefused, match=r"orch\.sqlite3"):
        require_own(StateDir(world.home))
