"""Saves by way of the node's own disk arrive whole, or are said not to."""

from __future__ import annotations

import errno
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from checkpoints.blocks import BLOCK, block_sums
from checkpoints.errors import StagingFailed
from checkpoints.staging import BlockSums, ShardWriter
from jobs.contract.paths import JobDir
from worker.attempt import Attempt
from worker.node_staging import NodeStaging

FILES: dict[str, list[bytes]] = {
    "model.safetensors": [b"head", b"x" * (BLOCK + 5)],
    "state.json": [b"{}"],
    "empty": [],
}


class Node:
    """A rank's node: its disk, what people hear, and the shared directory."""

    def __init__(self, root: Path) -> None:
        self.root, self.disk = root, root / "disk"
        self.heard: list[str] = []
        self._saves = 0

    def staging(self, epoch: int = 2) -> NodeStaging:
        """Return the staging of an attempt on this node."""
        attempt = SimpleNamespace(
            job=JobDir(self.root / "orch" / "jobs" / "j"),
            epoch=epoch,
            layout=SimpleNamespace(rank=1),
        )
        return NodeStaging(cast("Attempt", attempt), self.disk, self.heard.append)

    def writer(self) -> ShardWriter:
        """Begin another save in the shared directory."""
        self._saves += 1
        return ShardWriter(self.root / "shared" / str(self._saves), rank=1)

    def left(self) -> list[Path]:
        """Return the files that lie on the node's disk."""
        return [path for path in self.disk.rglob("*") if path.is_file()]


@pytest.fixture
def node(tmp_path: Path) -> Node:
    """A node that works."""
    (tmp_path / "shared").mkdir()
    return Node(tmp_path)


def written(writer: ShardWriter) -> dict[str, bytes]:
    """Return what lies in the shared directory."""
    return {path.name: path.read_bytes() for path in writer.directory.iterdir()}


WHOLE = {name: b"".join(parts) for name, parts in FILES.items()}


def test_the_shared_directory_has_what_a_direct_save_has(node: Node) -> None:
    """Same bytes, sizes, digests and sums; nothing is left on the node."""
    through, direct = node.writer(), node.writer()
    node.staging().write(FILES, through)
    direct.write_all(FILES)
    assert written(through) == written(direct) == WHOLE
    assert through.finish() == direct.finish()
    assert node.left() == []
    assert node.heard == []


def test_what_older_attempts_left_is_swept(node: Node) -> None:
    """A killed rank's copies go when the job comes back to the node; a newer one's stay."""
    for epoch in (1, 3):
        place = node.staging(epoch)._directory
        place.mkdir()
        (place / "left").write_bytes(b"x")
    node.staging(2)
    assert [path.parent.name for path in node.left()] == ["e0003.r00001"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_refuses_is_not_used_any_more(
    node: Node, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """This save and all later ones go straight to the shared directory; it is said once."""
    staging = node.staging()
    monkeypatch.setenv("ORCH_FAULT", f"node.after_write:errno={errno.errorcode[number]}@2+")
    from durable import faults

    faults.reset()
    for _ in range(2):
        writer = node.writer()
        staging.write(FILES, writer)
        assert written(writer) == WHOLE
    monkeypatch.delenv("ORCH_FAULT")
    faults.reset()
    assert len(node.heard) == 1
    assert "not used" in node.heard[0]
    assert node.left() == []


def test_a_place_that_cannot_be_made_is_not_used(node: Node) -> None:
    """A node without that disk saves as if nobody had asked for it."""
    node.disk.write_bytes(b"a file")
    writer = node.writer()
    node.staging().write(FILES, writer)
    assert written(writer) == WHOLE
    assert len(node.heard) == 1


@pytest.mark.parametrize("damage", ["flip", "lose"])
def test_what_comes_back_from_the_disk_must_be_what_was_put_there(
    node: Node, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    """Otherwise that try of the save fails, and the next one goes past the disk."""
    staging = node.staging()
    real: Any = ShardWriter.copy

    def copy(self: ShardWriter, name: str, source: Path, *, digest: str) -> Any:
        if name.startswith("model"):
            if damage == "lose":
                source.unlink()
            else:
                source.write_bytes(source.read_bytes()[:-1] + b"y")
        return real(self, name, source, digest=digest)

    monkeypatch.setattr(ShardWriter, "copy", copy)
    broken = node.writer()
    with pytest.raises(StagingFailed):
        staging.write(FILES, broken)
    with pytest.raises(StagingFailed):
        broken.finish()
    writer = node.writer()
    staging.write(FILES, writer)
    assert written(writer) == WHOLE
    assert node.left() == []


def test_sums_do_not_depend_on_how_a_file_is_cut() -> None:
    """Part by part as at once."""
    data = bytes(range(256)) * 9000
    sums = BlockSums()
    for start in range(0, len(data), 70_001):
        sums.update(data[start : start + 70_001])
    assert sums.text() == block_sums(data)
    assert BlockSums().text() == block_sums() == ""
