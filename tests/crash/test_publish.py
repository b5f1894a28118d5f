"""Killed, or out of space, at every fault point of publishing: whole and old, or whole and new."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from durable.files import (
    TEMPORARY_SUFFIX,
    private_dir,
    publish_all_new,
    publish_dir,
    publish_file,
    publish_new,
    write_durable,
)
from durable.syncing import FilesystemSync
from tests.crash.warm_child import FAILED, KILLED, WarmChild

pytestmark = pytest.mark.crash
OLD, NEW = b"old" * 1000, b"new" * 2000
ACTIONS = {"kill": KILLED, "errno=ENOSPC": FAILED, "errno=EIO": FAILED}


def replace_record(root: str, *, durable: bool = True) -> None:
    """Child: republish a record."""
    publish_file(Path(root) / "record", NEW, durable=durable)


def claim(root: str) -> None:
    """Child: publish a record that must not exist."""
    assert publish_new(Path(root) / "claim", NEW)


def move(root: str) -> None:
    """Child: stage a directory and publish it."""
    staged = private_dir(Path(root) / "staged" / "inner")
    write_durable(staged / "file", NEW)
    publish_dir(staged.parent, Path(root) / "final")


MANY = 40


def publish_many(root: str) -> None:
    """Child: publish files in directories of their own."""
    files = {Path(root) / "all" / f"{n:02d}" / "file": NEW for n in range(MANY)}
    publish_all_new(private_dir(Path(root) / "all"), files)


@pytest.fixture(scope="module")
def child() -> Iterator[WarmChild]:
    """A process that forks."""
    with WarmChild(__name__) as warm:
        yield warm


def interrupt(
    child: WarmChild, root: Path, function: str, point: str, action: str, **arguments: bool
) -> None:
    """Run `function` with a fault; assert that the point was reached and the child ended so."""
    log = root.parent / f"{root.name}.hits"
    code = child.call(
        f"{__name__}:{function}",
        environment={"ORCH_FAULT": f"{point}:{action}", "ORCH_FAULT_LOG": str(log)},
        root=str(root),
        **arguments,
    )
    assert point in log.read_text().split()
    assert code == ACTIONS[action]


def leftovers(root: Path) -> list[str]:
    """Return temporary files that remained."""
    return [entry.name for entry in root.iterdir() if entry.name.endswith(TEMPORARY_SUFFIX)]


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize(
    ("point", "durable", "content"),
    [
        ("publish.before_write", True, OLD),
        ("files.before_fsync", True, OLD),
        ("publish.after_write", True, OLD),
        ("publish.before_rename", True, OLD),
        ("publish.after_rename", True, NEW),
        ("publish_volatile.before_rename", False, OLD),
    ],
)
def test_publish_file(
    child: WarmChild, tmp_path: Path, point: str, action: str, content: bytes, *, durable: bool
) -> None:
    """The name shows the whole old or the whole new content; an error leaves no temporary file."""
    (tmp_path / "record").write_bytes(OLD)
    interrupt(child, tmp_path, "replace_record", point, action, durable=durable)
    assert (tmp_path / "record").read_bytes() == content
    assert action == "kill" or leftovers(tmp_path) == []
    replace_record(str(tmp_path))
    assert (tmp_path / "record").read_bytes() == NEW


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize(
    ("point", "exists"),
    [
        ("publish.before_write", False),
        ("files.before_fsync", False),
        ("publish.after_write", False),
        ("publish_new.before_link", False),
        ("publish_new.after_link", True),
    ],
)
def test_publish_new(
    child: WarmChild, tmp_path: Path, point: str, action: str, *, exists: bool
) -> None:
    """The claim is not there, or whole; who comes next wins or loses accordingly."""
    interrupt(child, tmp_path, "claim", point, action)
    assert (tmp_path / "claim").exists() is exists
    assert action == "kill" or leftovers(tmp_path) == []
    assert publish_new(tmp_path / "claim", OLD) is not exists
    assert (tmp_path / "claim").read_bytes() == (NEW if exists else OLD)


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize(
    ("point", "count"),
    [
        ("publish_all.before_sync", 0),
        ("files.before_syncfs", 0),
        ("publish_all.after_sync", 0),
        ("publish_all.linked", 1),
    ],
)
def test_publish_all_new(
    child: WarmChild, tmp_path: Path, point: str, action: str, count: int
) -> None:
    """No name appears before every content is durable; each is whole; a repetition completes."""
    whole = FilesystemSync.open(tmp_path)
    if whole is None:
        pytest.skip("this filesystem is synced file by file, as by publish_new")
    whole.close()
    interrupt(child, tmp_path, "publish_many", point, action)
    folders = sorted((tmp_path / "all").iterdir())
    there = [folder / "file" for folder in folders if (folder / "file").exists()]
    assert len(there) == count
    assert {path.read_bytes() for path in there} <= {NEW}
    assert action == "kill" or [name for folder in folders for name in leftovers(folder)] == []

    publish_many(str(tmp_path))
    assert {(folder / "file").read_bytes() for folder in folders} == {NEW}
    assert len(folders) == MANY


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize(
    ("point", "exists"), [("publish_dir.before_rename", False), ("publish_dir.after_rename", True)]
)
def test_publish_dir(
    child: WarmChild, tmp_path: Path, point: str, action: str, *, exists: bool
) -> None:
    """The final name is missing, or has everything."""
    interrupt(child, tmp_path, "move", point, action)
    assert (tmp_path / "final").exists() is exists
    whole = tmp_path / ("final" if exists else "staged")
    assert (whole / "inner" / "file").read_bytes() == NEW
