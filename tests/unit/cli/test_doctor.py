"""`orch doctor`: each thing that can be wrong is found, named and has a fix."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

from orchestrator.doctor import filesystem, state
from orchestrator.doctor.check import Check, Level, failed, passed, warned
from orchestrator.doctor.cluster import site_check, slurm_check
from orchestrator.doctor.interpreter import packages_check, python_check
from orchestrator.views.doctor import doctor_document, doctor_table, verdict_line
from orchestrator.views.table import plain_lines
from tests.unit.cli.conftest import Outcome
from tests.unit.cli.state import write_state

Orch = Callable[..., Outcome]


def test_the_document_has_the_promised_fields(orch: Orch) -> None:
    """doctor --json → checks with name, ok, detail and fix, and an exit code that agrees."""
    shown = orch("doctor", "--json")

    checks = shown.document["checks"]
    assert all({"name", "ok", "detail", "fix"} <= set(check) for check in checks)
    assert {
        "python", "packages", "worker packages", "slurm", "backend", "site", "state directory",
        "locks", "clock", "filesystem", "space",
    } <= {check["name"] for check in checks}  # fmt: skip
    assert shown.code == (0 if all(check["ok"] for check in checks) else 1)


def test_looking_creates_nothing(orch: Orch, home: Path, tmp_path: Path) -> None:
    """A check-up must leave no state directory and no probe file behind."""
    orch("doctor")

    assert not home.exists()
    assert list(tmp_path.iterdir()) == []


def test_a_healthy_state_directory_passes(home: Path) -> None:
    """Private, ours, locking, whole database: everything is ok."""
    write_state(home, {1: "COMPLETED"})

    checks = state.state_checks(home)

    assert {check.name for check in checks} >= {"database", "watcher"}
    assert all(check.ok for check in checks)


def test_a_directory_that_others_may_read_fails_with_the_chmod(home: Path) -> None:
    """Tokens and data may be in there: mode 0700 or a failure."""
    write_state(home, {1: "NEW"})
    home.chmod(0o755)

    check = state.directory_check(home, home)

    assert (check.level, check.fix) == (Level.FAILED, f"chmod 700 {home}")


def test_a_file_in_the_place_of_the_directory_fails(home: Path) -> None:
    """ORCH_HOME may name a file by mistake."""
    home.write_text("x")

    assert state.directory_check(home, home.parent).level is Level.FAILED


def test_a_broken_database_fails(home: Path) -> None:
    """Overwritten pages must be found before a verb trips over them."""
    database = write_state(home, dict.fromkeys(range(300), "QUEUED")).database
    assert state.database_check(database).level is Level.OK

    with database.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(3 * 4096))

    assert state.database_check(database).level is Level.FAILED


def test_open_jobs_without_watcher_are_a_warning(home: Path) -> None:
    """It works again as soon as someone watches, so it does not fail."""
    write_state(home, {1: "RUNNING", 2: "COMPLETED"})

    check = state.watcher_check(home)

    assert (check.level, check.fix) == (Level.WARNING, "orch watch")
    assert "1 job needs one" in check.detail


def test_missing_packages_are_named() -> None:
    """The reader must learn which, and the command that installs them."""

    def version(name: str) -> str:
        if name == "torch":
            raise metadata.PackageNotFoundError(name)
        return "1.0"

    check = packages_check("worker packages", ["torch", "peft"], fix="pip", version_of=version)

    assert (check.level, check.detail, check.fix) == (Level.FAILED, "missing: torch", "pip")


def test_an_old_python_fails() -> None:
    """3.10 cannot run it."""
    assert python_check((3, 10, 9)).level is Level.FAILED
    assert python_check((3, 11, 0)).level is Level.OK


@pytest.mark.parametrize(
    ("mount", "level"),
    [
        ("ext4 /dev/sda1 rw", "ok"),
        ("nfs4 server:/ rw,local_lock=none", "warning"),
        ("fuse.sshfs me@there:/ rw", "warning"),
        ("tmpfs tmpfs rw", "warning"),
        ("lustre mds:/ rw,localflock", "failed"),
    ],
)
def test_network_and_memory_file_systems_are_warned_of(
    tmp_path: Path, mount: str, level: str
) -> None:
    """They work, and may hurt: a reboot empties one. Where locks end at this host it fails."""
    check = filesystem.type_check(tmp_path, f"22 1 0:1 / / rw - {mount}\n")

    assert check.level == level
    assert bool(check.fix) == (level != "ok")


def test_a_lock_that_excludes_nobody_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a mount where flock is a no-op two watchers would write at once."""
    assert filesystem.lock_check(tmp_path).level is Level.OK

    monkeypatch.setattr("fcntl.flock", lambda *_: None)

    assert filesystem.lock_check(tmp_path).level is Level.FAILED


def test_a_clock_that_was_never_set_fails_and_skew_warns(tmp_path: Path) -> None:
    """Deadlines and ages come from the clock."""
    assert filesystem.clock_check(tmp_path).level is Level.OK
    assert filesystem.clock_check(tmp_path, wall=0.0).level is Level.FAILED
    assert filesystem.clock_check(tmp_path, wall=1.8e9 * 2).level is Level.WARNING


def test_no_slurm_is_fine_and_a_silent_controller_is_a_warning() -> None:
    """Without Slurm the local backend works; a silent controller is the site's business."""
    assert slurm_check("sbatch not on PATH", None).level is Level.OK
    assert slurm_check(None, "no answer").level is Level.WARNING


def test_a_site_file_that_cannot_be_used_fails(tmp_path: Path) -> None:
    """The finding names the key and the line; a good one says what it changes."""
    site = tmp_path / "site.yaml"
    site.write_text("acount: physics\n")
    bad = site_check(site, tmp_path)
    site.write_text("account: physics\n")
    good = site_check(site, tmp_path)

    assert bad.level is Level.FAILED
    assert "site.yaml:1:" in bad.detail
    assert good.level is Level.OK
    assert "physics" in good.detail


def test_the_listing_puts_the_fix_below_the_finding() -> None:
    """A reader must not have to look for it; warnings count apart from failures."""
    checks: list[Check] = [passed("a", "fine"), warned("b", "hm", "do x"), failed("c", "no", "y")]

    assert [line.split() for line in plain_lines(doctor_table(checks))][2:4] == [
        ["b", "warning", "hm"],
        ["fix:", "do", "x"],
    ]
    assert verdict_line(checks) == "3 checks: 1 failed, 1 warning"
    assert [entry["ok"] for entry in doctor_document(checks)["checks"]] == [True, True, False]
