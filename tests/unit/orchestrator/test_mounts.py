"""Mountinfo's text tells which file system holds a path and how far its locks reach."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.contract.paths import StateDir
from orchestrator.instance import StateRefused
from orchestrator.lease import require_reaching_locks
from orchestrator.mounts import LockReach, Mount, lock_reach, mount_of, read_mountinfo

MOUNTS = """\
22 1 0:1 / / rw - ext4 /dev/sda1 rw
23 22 0:2 / /home rw - nfs4 server:/home rw,vers=4.2,local_lock=none
24 23 0:3 / /home/me/my\\040disk rw shared:1 - xfs /dev/sdb rw
25 22 0:4 / /scratch rw,noatime - lustre 10.0.0.1@o2ib:/fs rw,localflock
26 22 0:5 / /scratch rw,noatime - lustre 10.0.0.1@o2ib:/fs rw,flock
not a line of mountinfo
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/srv/x", "ext4"),
        ("/home/me/x", "nfs4"),
        ("/home/me/my disk/x", "xfs"),
        ("/homer", "ext4"),
        ("/scratch", "lustre"),
    ],
)
def test_the_file_system_is_that_of_the_nearest_mount(path: str, kind: str) -> None:
    """The longest mount point that holds the path decides; blanks in it are escaped."""
    assert mount_of(Path(path), MOUNTS).kind == kind


def test_a_mount_over_a_mount_hides_it() -> None:
    """The last one at a place is the one that is seen."""
    assert "flock" in mount_of(Path("/scratch/x"), MOUNTS).options


@pytest.mark.parametrize(
    ("kind", "options", "reach"),
    [
        ("ext4", "rw", LockReach.ONE_HOST),
        ("tmpfs", "rw", LockReach.ONE_HOST),
        ("overlay", "rw", LockReach.ONE_HOST),
        ("lustre", "rw,flock", LockReach.HOSTS),
        ("lustre", "rw,localflock", LockReach.HOST_ONLY),
        ("lustre", "rw,noflock", LockReach.NONE),
        ("lustre", "rw", LockReach.UNKNOWN),
        ("nfs", "rw,vers=3,nolock,local_lock=all", LockReach.HOST_ONLY),
        ("nfs", "rw,vers=3,local_lock=none", LockReach.HOSTS),
        ("nfs4", "rw,local_lock=flock", LockReach.HOST_ONLY),
        ("nfs4", "rw", LockReach.UNKNOWN),
        ("gpfs", "rw", LockReach.UNKNOWN),
        ("beegfs", "rw", LockReach.UNKNOWN),
        ("fuse.sshfs", "rw", LockReach.UNKNOWN),
        ("cifs", "rw,nobrl", LockReach.HOST_ONLY),
        ("unknown", "", LockReach.UNKNOWN),
    ],
)
def test_options_tell_how_far_locks_reach(kind: str, options: str, reach: LockReach) -> None:
    """Only what is known to end at this host is called so."""
    mount = Mount(point="/", kind=kind, options=frozenset(options.split(",")))

    assert lock_reach(mount) is reach


def test_a_state_directory_whose_locks_end_here_is_refused_until_told_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two hosts would both write; the message names the mount option and the way out."""
    text = "22 1 0:1 / / rw - lustre mds:/fs rw,localflock\n"

    with pytest.raises(StateRefused, match="lustre") as refused:
        assert require_reaching_locks(StateDir(tmp_path), text) is LockReach.HOST_ONLY

    assert "-o flock" in refused.value.fix
    monkeypatch.setenv("ORCH_HOST_LOCKS", "accept")
    assert require_reaching_locks(StateDir(tmp_path), text) is LockReach.HOST_ONLY


def test_this_machine_has_a_mount_for_every_path(tmp_path: Path) -> None:
    """The real text is understood."""
    assert mount_of(tmp_path.resolve(), read_mountinfo()).kind != "unknown"
