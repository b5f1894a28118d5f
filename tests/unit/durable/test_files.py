"""A published file is there whole or not at all, and nothing published is ever overwritten."""

from __future__ import annotations

import errno
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from durable import files
from durable.files import (
    AlreadyThere,
    append_durable,
    private_dir,
    publish_dir,
    publish_file,
    publish_new,
    write_durable,
)


def names(directory: Path) -> set[str]:
    """Return what lies in a directory."""
    return {entry.name for entry in directory.iterdir()}


def failing(number: int) -> object:
    """Return a stand-in for a system call that fails."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("durable", [True, False])
def test_publish_replaces_the_whole_content(tmp_path: Path, *, durable: bool) -> None:
    """The name shows the new content, private to the user, without leftovers."""
    path = tmp_path / "record.json"
    publish_file(path, b"a long first version", durable=durable)
    publish_file(path, b"second", durable=durable)
    assert path.read_bytes() == b"second"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert names(tmp_path) == {"record.json"}


@pytest.mark.parametrize("durable", [True, False])
@pytest.mark.parametrize("call", ["write", "open"])
def test_a_failed_publish_leaves_the_old_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, *, durable: bool
) -> None:
    """A full disk costs the new version only, and leaves no temporary file."""
    path = tmp_path / "record.json"
    publish_file(path, b"old")
    with monkeypatch.context() as patch:
        patch.setattr(files.os, call, failing(errno.ENOSPC))
        with pytest.raises(OSError, match="No space"):
            publish_file(path, b"new", durable=durable)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == {"record.json"}


def test_a_failed_fsync_is_never_repeated_on_the_same_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After EIO the kernel may have dropped the pages: the file is thrown away instead."""
    path = tmp_path / "record.json"
    calls: list[int] = []

    def fsync(descriptor: int) -> None:
        calls.append(descriptor)
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(files.os, "fsync", fsync)
    with pytest.raises(OSError, match="Input/output"):
        publish_file(path, b"new")
    assert len(calls) == 1
    assert names(tmp_path) == set()


def test_volatile_publishing_does_not_fsync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A heartbeat must not wait for a slow disk."""
    monkeypatch.setattr(files.os, "fsync", lambda fd: pytest.fail("fsynced"))
    publish_file(tmp_path / "progress.json", b"{}", durable=False)


def test_short_writes_are_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """write() may take less than it was given."""
    real = os.write
    monkeypatch.setattr(files.os, "write", lambda fd, data: real(fd, data[:3]))
    publish_file(tmp_path / "record", b"0123456789")
    append_durable(tmp_path / "record", b"abcdefgh")
    assert (tmp_path / "record").read_bytes() == b"0123456789abcdefgh"


def test_publish_new_never_overwrites(tmp_path: Path) -> None:
    """The first one wins, for good; the others are told."""
    path = tmp_path / "0001.json"
    assert publish_new(path, b"first")
    assert not publish_new(path, b"second")
    assert path.read_bytes() == b"first"
    assert names(tmp_path) == {"0001.json"}


def test_publish_new_has_one_winner_in_a_race(tmp_path: Path) -> None:
    """Of sixteen at once exactly one publishes, and the file is that one's, whole."""
    barrier = Barrier(16)

    def claim(number: int) -> bool:
        barrier.wait()
        return publish_new(tmp_path / "claim", b"%02d" % number * 1000)

    with ThreadPoolExecutor(16) as pool:
        won = list(pool.map(claim, range(16)))
    assert sum(won) == 1
    assert (tmp_path / "claim").read_bytes() == b"%02d" % won.index(True) * 1000
    assert names(tmp_path) == {"claim"}


@pytest.mark.parametrize("error", [errno.EEXIST, errno.EIO])
def test_a_link_that_succeeded_but_reported_an_error_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    """NFS repeats a lost request and then reports that the name exists: it is our own link."""
    real = os.link

    def link(*args: Path, **kwargs: bool) -> None:
        real(*args, **kwargs)
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(files.os, "link", link)
    assert publish_new(tmp_path / "claim", b"mine")


def test_a_filesystem_without_links_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no weaker way to publish once: the error says what is needed."""
    monkeypatch.setattr(files.os, "link", failing(errno.EPERM))
    with pytest.raises(OSError, match="hard links"):
        publish_new(tmp_path / "claim", b"mine")
    assert names(tmp_path) == set()


@pytest.fixture
def staged(tmp_path: Path) -> Path:
    """A staged directory with one file below a directory."""
    directory = tmp_path / "staging"
    (directory / "inner").mkdir(parents=True)
    (directory / "inner" / "file").write_bytes(b"x")
    return directory


def test_publish_dir_moves_the_whole_tree(tmp_path: Path, staged: Path) -> None:
    """The final name has everything, the staging name is gone."""
    publish_dir(staged, tmp_path / "final")
    assert (tmp_path / "final" / "inner" / "file").read_bytes() == b"x"
    assert not staged.exists()


@pytest.mark.parametrize("kind", ["empty directory", "directory", "file", "dangling link"])
def test_publish_dir_refuses_an_existing_target(tmp_path: Path, staged: Path, kind: str) -> None:
    """Also an empty directory, which rename() would replace without a word."""
    final = tmp_path / "final"
    match kind:
        case "file":
            final.write_bytes(b"old")
        case "dangling link":
            final.symlink_to("nowhere")
        case _:
            final.mkdir()
    if kind == "directory":
        (final / "old").write_bytes(b"old")
    inode = final.lstat().st_ino
    with pytest.raises(AlreadyThere, match="final exists"):
        publish_dir(staged, final)
    assert final.lstat().st_ino == inode
    assert (staged / "inner" / "file").exists()


def test_a_fence_that_raises_stops_the_rename(tmp_path: Path, staged: Path) -> None:
    """before_rename has the last word."""

    def fence() -> None:
        raise PermissionError("a higher epoch holds the job")

    with pytest.raises(PermissionError, match="higher epoch"):
        publish_dir(staged, tmp_path / "final", before_rename=fence)
    assert names(tmp_path) == {"staging"}


def test_every_directory_is_synced_before_the_fence_and_the_parent_after_the_rename(
    tmp_path: Path, staged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order is what makes it power-cut safe; the fence is as late as it can be."""
    events: list[str] = []
    monkeypatch.setattr(files, "fsync_dir", lambda path: events.append(f"fsync {path.name}"))
    publish_dir(staged, tmp_path / "final", before_rename=lambda: events.append("fence"))
    assert events == ["fsync inner", "fsync staging", "fence", f"fsync {tmp_path.name}"]


def test_a_rename_that_succeeded_but_reported_an_error_counts(
    tmp_path: Path, staged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NFS again: what counts is whether the final name is our directory."""
    real = Path.rename

    def rename(self: Path, target: Path) -> Path:
        real(self, target)
        raise FileNotFoundError(errno.ENOENT, "No such file")

    monkeypatch.setattr(Path, "rename", rename)
    publish_dir(staged, tmp_path / "final")
    assert (tmp_path / "final" / "inner" / "file").exists()


@pytest.mark.parametrize("kind", ["file", "link"])
def test_write_durable_creates_and_never_follows_or_overwrites(tmp_path: Path, kind: str) -> None:
    """A file of a failed try is thrown away by its owner, never written over."""
    path = tmp_path / "shard"
    if kind == "file":
        path.write_bytes(b"old")
    else:
        path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError):
        write_durable(path, b"new")
    assert not (tmp_path / "elsewhere").exists()


def test_write_durable_takes_memory_of_any_item_size(tmp_path: Path) -> None:
    """A memoryview of doubles is written byte for byte."""
    view = memoryview(b"01234567" * 4).cast("d")
    write_durable(tmp_path / "shard", view)
    assert (tmp_path / "shard").read_bytes() == view.tobytes()


def test_append_adds_to_what_is_there(tmp_path: Path) -> None:
    """Appending creates the file and keeps what it has."""
    path = tmp_path / "metrics.jsonl"
    append_durable(path, b"1\n")
    append_durable(path, b"2\n", durable=False)
    assert path.read_bytes() == b"1\n2\n"


def test_private_directories_are_private_whatever_the_umask(tmp_path: Path) -> None:
    """Everything that is created has mode 0700; what exists keeps its mode."""
    tmp_path.chmod(0o750)
    before = os.umask(0)
    try:
        path = private_dir(tmp_path / "a" / "b")
    finally:
        os.umask(before)
    assert path == tmp_path / "a" / "b"
    assert [stat.S_IMODE(p.stat().st_mode) for p in (path, path.parent, tmp_path)] == [
        0o700,
        0o700,
        0o750,
    ]
    assert private_dir(path) == path


def test_a_file_in_the_way_of_a_directory_is_named(tmp_path: Path) -> None:
    """The message says which path is in the way."""
    (tmp_path / "a").write_bytes(b"")
    with pytest.raises(NotADirectoryError, match="a is in the way"):
        private_dir(tmp_path / "a" / "b")
