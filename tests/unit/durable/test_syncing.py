"""Many files at once: as durable as one by one, or one by one where that cannot be known."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from durable import files, syncing
from durable.files import FEW_FILES, publish_all_new
from durable.syncing import FilesystemSync, filesystem_kind

MOUNTS = """\
22 1 253:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
40 22 0:41 / /home rw - nfs4 server:/home rw
41 22 0:42 / /mnt rw - fuse.sshfs host:/ rw
garbage
"""
COUNT = FEW_FILES + 3


def some_files(root: Path) -> dict[Path, bytes]:
    """Return files in directories of their own."""
    return {root / str(n) / "file": str(n).encode() for n in range(COUNT)}


@pytest.mark.parametrize(
    ("device", "kind"),
    [((253, 0), "ext4"), ((0, 41), "nfs4"), ((0, 42), "fuse.sshfs"), ((0, 99), None)],
)
def test_a_filesystem_is_known_by_its_device(device: tuple[int, int], kind: str | None) -> None:
    """Not by a path, which a bind mount or a link would deceive."""
    assert filesystem_kind(os.makedev(*device), MOUNTS) == kind


@pytest.mark.parametrize(
    ("kind", "release", "honest"),
    [
        ("ext4", "6.1.0-18-amd64", True),
        ("xfs", "5.14.0-427.el9", True),
        ("ext4", "4.18.0-553.el8", False),  # syncfs keeps errors to itself
        ("nfs4", "6.1.0", False),
        ("fuse.sshfs", "6.1.0", False),
        ("ext4", "unknown", False),
    ],
)
def test_only_what_is_known_to_sync_and_to_tell_of_errors_is_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, release: str, honest: bool
) -> None:
    """Everything else is synced file by file."""
    device = tmp_path.stat().st_dev
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"1 1 {os.major(device)}:{os.minor(device)} / / rw - {kind} x rw\n")
    monkeypatch.setattr(syncing, "_MOUNTS", mounts)
    monkeypatch.setattr("platform.release", lambda: release)

    whole = FilesystemSync.open(tmp_path)

    assert (whole is not None) is honest
    if whole is not None:
        whole.sync()
        whole.close()


class Watched:
    """A filesystem that notes what exists when it is synced."""

    def __init__(self, root: Path) -> None:
        self.root, self.device = root, root.stat().st_dev
        self.seen: list[tuple[int, int]] = []

    def sync(self) -> None:
        names = list(self.root.glob("*/file"))
        contents = list(self.root.glob("*/.file.*"))
        self.seen.append((len(names), len(contents)))

    def close(self) -> None:
        pass


def test_contents_are_durable_before_names_and_names_before_it_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two syncs, whatever the number of files."""
    watched = Watched(tmp_path)
    monkeypatch.setattr(files.FilesystemSync, "open", lambda _root: watched)

    publish_all_new(tmp_path, some_files(tmp_path))

    assert watched.seen == [(0, COUNT), (COUNT, 0)]
    assert all(path.read_bytes() == data for path, data in some_files(tmp_path).items())
    assert all(path.stat().st_mode & 0o077 == 0 for path in some_files(tmp_path))
    assert all(path.parent.stat().st_mode & 0o077 == 0 for path in some_files(tmp_path))


@pytest.mark.parametrize("known", [True, False])
def test_names_that_exist_stay_and_are_made_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    """Who was killed between a name and its sync left it to us."""
    watched = Watched(tmp_path)
    monkeypatch.setattr(files.FilesystemSync, "open", lambda _root: watched if known else None)
    synced: list[Path] = []
    monkeypatch.setattr(files, "fsync_dir", synced.append)
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "file").write_bytes(b"older")

    publish_all_new(tmp_path, some_files(tmp_path))

    assert (tmp_path / "0" / "file").read_bytes() == b"older"
    assert (tmp_path / "1" / "file").read_bytes() == b"1"
    assert watched.seen[-1] == (COUNT, 0) if known else tmp_path / "0" in synced


def test_a_sync_that_fails_publishes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The contents may be lost: no name may lead to one, and nothing is left lying about."""
    watched = Watched(tmp_path)

    def fail() -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(watched, "sync", fail)
    monkeypatch.setattr(files.FilesystemSync, "open", lambda _root: watched)

    with pytest.raises(OSError, match="Input/output"):
        publish_all_new(tmp_path, some_files(tmp_path))

    assert list(tmp_path.glob("*/*")) == []
