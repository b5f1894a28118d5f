"""A shard is written once, under plain names, and is dead after its first failure."""

from __future__ import annotations

import errno
import hashlib
import threading
import zlib
from pathlib import Path

import pytest

from checkpoints import staging
from checkpoints.blocks import BLOCK, block_sums
from checkpoints.errors import StagingFailed
from checkpoints.staging import ShardWriter, staging_epoch, staging_name


@pytest.fixture
def writer(tmp_path: Path) -> ShardWriter:
    """Rank 1's writer."""
    return ShardWriter(tmp_path / "staged", rank=1)


def test_an_entry_describes_the_memory_that_was_given(writer: ShardWriter) -> None:
    """Size and digest are of the data in memory; any buffer is taken byte for byte."""
    view = memoryview(b"12345678" * 2).cast("d")
    entry = writer.write("model.safetensors", view)
    assert entry.path == "rank-00001/model.safetensors"
    assert entry.bytes == 16
    assert entry.digest == "sha256:" + hashlib.sha256(view.tobytes()).hexdigest()
    assert (writer.directory / "model.safetensors").read_bytes() == view.tobytes()
    assert writer.finish() == [entry]


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/a", "a\0b", "-a", "a\n", "ä", "x" * 129])
def test_a_name_is_plain(writer: ShardWriter, name: str) -> None:
    """No name leaves the rank's directory; the writer stays usable."""
    with pytest.raises(ValueError, match="cannot be a file of a checkpoint"):
        writer.write(name, b"")
    writer.write("a", b"")


def test_a_name_is_written_once(writer: ShardWriter) -> None:
    """Also in another case."""
    writer.write("state.json", b"{}")
    with pytest.raises(ValueError, match="already"):
        writer.write("State.json", b"{}")


def test_after_a_failed_write_the_shard_is_dead(
    writer: ShardWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No second try on the same files: the disk may have lied about the first."""
    writer.write("a", b"")
    with monkeypatch.context() as patch:

        def fail(*_: object) -> None:
            raise OSError(errno.EIO, "Input/output error")

        patch.setattr(staging, "write_durable", fail)
        with pytest.raises(OSError, match="Input/output"):
            writer.write("b", b"")
    with pytest.raises(StagingFailed, match=r"rank-00001/b: .*Input/output.*stage the checkpoint"):
        writer.write("c", b"")
    with pytest.raises(StagingFailed):
        writer.finish()


def test_a_failed_fsync_of_the_directory_kills_the_shard(
    writer: ShardWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """finish() cannot be repeated either."""
    with monkeypatch.context() as patch:

        def fail(path: Path) -> None:
            raise OSError(errno.EIO, "Input/output error")

        patch.setattr(staging, "fsync_dir", fail)
        with pytest.raises(OSError, match="Input/output"):
            writer.finish()
    with pytest.raises(StagingFailed):
        writer.finish()


def test_a_finished_shard_takes_nothing_more(writer: ShardWriter) -> None:
    """Rank 0 has its list; a later file would make the checkpoint invalid."""
    writer.finish()
    with pytest.raises(StagingFailed, match="finished"):
        writer.write("late", b"")


def test_a_ranks_directory_must_be_new(writer: ShardWriter) -> None:
    """Files of a failed try are never mixed with those of the next."""
    with pytest.raises(FileExistsError):
        ShardWriter(writer.directory.parent, rank=1)


@pytest.mark.parametrize(
    ("name", "epoch"),
    [
        (staging_name(step=1200, epoch=3, try_number=2), 3),
        ("step-00001200.e0003.t1", 3),
        ("step-00001200.e0003", None),
        ("step-00001200.e0003.t1.bak", None),
        ("notes", None),
    ],
)
def test_a_staging_name_tells_whose_it_is(name: str, epoch: int | None) -> None:
    """Only names that are ours have an owner."""
    assert staging_epoch(name) == epoch


@pytest.mark.parametrize("beside", [0, staging.HASHED_BESIDE_BYTES])
def test_parts_are_one_file(
    writer: ShardWriter, monkeypatch: pytest.MonkeyPatch, beside: int
) -> None:
    """Digest and the sums of blocks are those of the whole, also where it is hashed beside."""
    monkeypatch.setattr(staging, "HASHED_BESIDE_BYTES", beside)
    parts = [b"head", memoryview(bytes(range(250)) * 9000), b"", b"t" * (3 << 20), b"end"]
    whole = b"".join(parts)

    entry = writer.write("model.safetensors", *parts)

    assert (writer.directory / "model.safetensors").read_bytes() == whole
    assert entry.bytes == len(whole)
    assert entry.digest == "sha256:" + hashlib.sha256(whole).hexdigest()
    blocks = [whole[start : start + BLOCK] for start in range(0, len(whole), BLOCK)]
    assert entry.blocks == "".join(f"{zlib.crc32(block):08x}" for block in blocks)
    assert entry.blocks == block_sums(whole)


def test_a_file_that_could_not_be_hashed_is_not_listed(
    writer: ShardWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No memory for the hashing thread's work: an error by name, and the shard is dead."""
    monkeypatch.setattr(staging, "HASHED_BESIDE_BYTES", 0)
    monkeypatch.setattr(threading, "excepthook", lambda _: None)

    def fail(*_: object) -> str:
        raise MemoryError

    monkeypatch.setattr(staging, "digest_of", fail)
    with pytest.raises(StagingFailed, match="could not be hashed"):
        writer.write("model.safetensors", b"x")
    with pytest.raises(StagingFailed, match="stage the checkpoint anew"):
        writer.finish()
