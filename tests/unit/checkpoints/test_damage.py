"""Whatever happens to a committed checkpoint's bytes: found, quarantined, the older one used."""

from __future__ import annotations

import errno
import json
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from checkpoints import verification
from checkpoints.errors import BrokenCheckpoint, NewerFormat
from checkpoints.manifest import digest_of
from checkpoints.store import CheckpointStore
from jobs.spec import canonical_json
from tests.unit.checkpoints.fake_attempt import (
    assert_loads,
    header,
    no_fence,
    open_store,
    save,
    shard,
)

FILES = [f"rank-0000{rank}/{name}" for rank in (0, 1) for name in shard(step=0, rank=0)]
EVERY_FILE = [*FILES, "MANIFEST.json"]
OLD, NEW = "step-00000010.e0001", "step-00000020.e0001"
Damage = Callable[[Path], None]  # takes the newest checkpoint


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    """A store with two good checkpoints."""
    store = open_store(tmp_path / "job" / "checkpoints")
    save(store, step=10)
    save(store, step=20)
    return store


def reseal(checkpoint: Path, **changes: object) -> None:
    """Edit a manifest and make its own digest right again."""
    path = checkpoint / "MANIFEST.json"
    body = {**json.loads(path.read_bytes()), **changes}
    del body["manifest_digest"]
    path.write_bytes(
        canonical_json({**body, "manifest_digest": digest_of(canonical_json(body))}) + b"\n"
    )


def assert_quarantined(store: CheckpointStore, file: str, reason: str) -> dict[str, object]:
    """Load: the newest goes to quarantine for this reason, the older one is used."""
    reports: list[str] = []
    loaded = store.latest_verified(reports.append)
    assert loaded is not None
    assert loaded.name == OLD
    assert_loads(loaded)
    assert store.candidates() == [OLD]
    (report,) = reports
    assert f"checkpoint {NEW} quarantined: " in report
    assert reason in report
    cell = store.root / "quarantine" / f"{NEW}.0"
    assert os.path.lexists(cell / NEW)
    record: dict[str, object] = json.loads((cell / "QUARANTINE.json").read_text())
    assert record["file"] == file
    assert reason in str(record["reason"])
    assert set(record) == {
        "schema_version",
        "reason",
        "file",
        "offset",
        "expected",
        "found",
        "when",
    }
    return record


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("file", EVERY_FILE)
def test_a_flipped_bit(store: CheckpointStore, file: str, seed: int) -> None:
    """One bit anywhere in any kind of file."""
    path = store.root / NEW / file
    data = bytearray(path.read_bytes())
    bit = random.Random(f"{file} {seed}").randrange(len(data) * 8)
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)
    # A flipped bit in the manifest may hit its digest, its JSON or its spelling.
    reason = "manifest" if file == "MANIFEST.json" else ""
    record = assert_quarantined(store, file, reason)
    if file in FILES and "header" not in str(record["reason"]):
        assert record["expected"] == digest_of(shard(step=20, rank=int(file[9]))[file[11:]])
        assert record["found"] == digest_of(data)


@pytest.mark.parametrize("file", EVERY_FILE)
@pytest.mark.parametrize("remaining", ["nothing", "half", "all but one byte"])
def test_truncation(store: CheckpointStore, file: str, remaining: str) -> None:
    """A file that lost its end, as after a power cut without fsync."""
    path = store.root / NEW / file
    size = path.stat().st_size
    length = {"nothing": 0, "half": size // 2, "all but one byte": size - 1}[remaining]
    os.truncate(path, length)
    record = assert_quarantined(store, file, "manifest" if file not in FILES else "size differs")
    if file in FILES:
        assert record["offset"] == length
        assert (record["expected"], record["found"]) == (f"{size} bytes", f"{length} bytes")


@pytest.mark.parametrize("file", [f for f in FILES if f.endswith(".safetensors")])
def test_a_zeroed_page(store: CheckpointStore, file: str) -> None:
    """A page that was never written back: safetensors itself would load it without a word."""
    with (store.root / NEW / file).open("r+b") as opened:
        opened.seek(4096)
        opened.write(bytes(4096)[: os.fstat(opened.fileno()).st_size - 4096])
    assert_quarantined(store, file, "digest differs")


@pytest.mark.parametrize("file", EVERY_FILE)
def test_a_longer_file(store: CheckpointStore, file: str) -> None:
    """Bytes after the end are no part of the checkpoint."""
    with (store.root / NEW / file).open("ab") as opened:
        opened.write(b"\n")
    assert_quarantined(store, file, "manifest" if file not in FILES else "size differs")


@pytest.mark.parametrize("file", EVERY_FILE)
def test_a_missing_file(store: CheckpointStore, file: str) -> None:
    """Every file of every rank, and the manifest."""
    (store.root / NEW / file).unlink()
    assert_quarantined(store, file, "is missing")


def test_a_missing_rank(store: CheckpointStore) -> None:
    """A whole rank is gone, e.g. it lay on another node's disk."""
    (store.root / NEW / "rank-00001").rename(store.root.parent / "elsewhere")
    assert_quarantined(store, FILES[4], "is missing")


@pytest.mark.parametrize("place", ["extra", "rank-00001/extra", "rank-00002"])
@pytest.mark.parametrize("kind", ["file", "directory", "fifo", "link"])
def test_an_extra_entry(store: CheckpointStore, place: str, kind: str) -> None:
    """What the manifest does not list is refused, at any level and of any kind."""
    path = store.root / NEW / place
    match kind:
        case "file":
            path.write_bytes(b"")
        case "directory":
            path.mkdir()
        case "fifo":
            os.mkfifo(path)
        case "link":
            path.symlink_to(store.root / OLD)
    assert_quarantined(store, place, "manifest")


@pytest.mark.parametrize("file", EVERY_FILE)
def test_a_link_in_place_of_a_file(store: CheckpointStore, file: str) -> None:
    """Even one that points to the very same bytes: they could change without us."""
    path = store.root / NEW / file
    elsewhere = store.root.parent / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    assert_quarantined(store, file, "is a symbolic link" if file not in FILES else "neither")


def test_a_link_in_place_of_a_ranks_directory(store: CheckpointStore) -> None:
    """The link is not followed, though every byte behind it is right."""
    path = store.root / NEW / "rank-00001"
    path.rename(store.root.parent / "elsewhere")
    path.symlink_to(store.root.parent / "elsewhere")
    assert_quarantined(store, "rank-00001", "neither")


@pytest.mark.parametrize("kind", ["link", "file", "dangling link"])
def test_the_checkpoint_itself_is_no_directory(store: CheckpointStore, kind: str) -> None:
    """A link to a good checkpoint is quarantined as a link; its target is not touched."""
    path = store.root / NEW
    elsewhere = store.root.parent / "elsewhere"
    path.rename(elsewhere)
    match kind:
        case "link":
            path.symlink_to(elsewhere)
        case "file":
            path.write_bytes(b"")
        case "dangling link":
            path.symlink_to("nowhere")
    assert_quarantined(store, "", "symbolic link" if "link" in kind else "not a directory")
    assert (elsewhere / "MANIFEST.json").exists()
    assert not (elsewhere / "QUARANTINE.json").exists()


@pytest.mark.parametrize("file", FILES)
def test_a_file_swapped_between_steps(store: CheckpointStore, file: str) -> None:
    """Both are intact files of this job, of equal size, at the wrong step."""
    ours, theirs = (store.root / name / file for name in (NEW, OLD))
    theirs_data = theirs.read_bytes()
    same_size = len(theirs_data) == ours.stat().st_size
    ours.write_bytes(theirs_data)
    assert_quarantined(store, file, "digest differs" if same_size else "size differs")


def test_files_swapped_between_ranks(store: CheckpointStore) -> None:
    """Rank 0 would go on with rank 1's optimizer."""
    zero, one = (store.root / NEW / f"rank-0000{rank}/optimizer.safetensors" for rank in (0, 1))
    data = zero.read_bytes()
    zero.write_bytes(one.read_bytes())
    one.write_bytes(data)
    assert_quarantined(store, "rank-00000/optimizer.safetensors", "digest differs")


def test_a_renamed_checkpoint(store: CheckpointStore) -> None:
    """Step 10 under the name of step 20: every digest is right, the name is not."""
    (store.root / NEW).rename(store.root.parent / "gone")
    save(store, step=5, epoch=1)
    (store.root / "step-00000005.e0001").rename(store.root / NEW)
    record = assert_quarantined(store, "MANIFEST.json", "the directory's name differs")
    assert record["expected"] == "step-00000005.e0001"


@pytest.mark.parametrize(
    ("field", "reason"), [("job", "the job differs"), ("spec_digest", "the spec's digest differs")]
)
def test_a_checkpoint_of_another_job(store: CheckpointStore, field: str, reason: str) -> None:
    """Copied into this directory by mistake: intact, and still not ours."""
    reseal(store.root / NEW, **{field: "f" * 16})
    assert_quarantined(store, "MANIFEST.json", reason)


@pytest.mark.parametrize(
    ("field", "value"), [("step", 30), ("epoch", 2), ("world_size", 1), ("world_size", 3)]
)
def test_an_edited_manifest(store: CheckpointStore, field: str, value: int) -> None:
    """Sealed again, but it contradicts its name or its own list of files."""
    reseal(store.root / NEW, **{field: value})
    assert_quarantined(store, "MANIFEST.json", "")


def test_a_huge_manifest_is_not_read(
    store: CheckpointStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sparse file of a terabyte costs no memory."""
    os.truncate(store.root / NEW / "MANIFEST.json", 1 << 40)
    assert_quarantined(store, "MANIFEST.json", "too large")


def test_a_bounded_safetensors_header(store: CheckpointStore) -> None:
    """A header length beyond the file is refused before anyone allocates it."""
    path = store.root / NEW / FILES[0]
    data = b"\xff" * 7 + b"\x7f" + path.read_bytes()[8:]
    path.write_bytes(data)
    files = json.loads((store.root / NEW / "MANIFEST.json").read_bytes())["files"]
    files[0]["digest"] = digest_of(data)
    reseal(store.root / NEW, files=files)
    assert_quarantined(store, FILES[0], "header is longer than allowed")


def test_all_are_bad(store: CheckpointStore) -> None:
    """Nothing is loaded, both are kept as evidence, both are reported."""
    for name in (OLD, NEW):
        (store.root / name / "rank-00000/rng.json").write_bytes(b"")
    reports: list[str] = []
    assert store.latest_verified(reports.append) is None
    assert [report.split()[1] for report in reports] == [NEW, OLD]
    assert store.candidates() == []


def test_quarantined_twice_under_one_name(store: CheckpointStore) -> None:
    """Evidence never replaces evidence."""
    for _ in range(2):
        (store.root / NEW / "MANIFEST.json").unlink()
        store.latest_verified(lambda report: None)
        save(store, step=20)
    assert sorted(entry.name for entry in (store.root / "quarantine").iterdir()) == [
        f"{NEW}.0",
        f"{NEW}.1",
    ]


def test_quarantine_for_a_reason_of_the_workers_own(store: CheckpointStore) -> None:
    """E.g. poison: attempts die at the same step from this checkpoint."""
    cell = store.quarantine(NEW, "3 attempts died at step 21")
    record = json.loads((cell / "QUARANTINE.json").read_text())
    assert (record["reason"], record["file"]) == ("3 attempts died at step 21", "")
    with pytest.raises(FileNotFoundError):
        store.quarantine(NEW, "again")


def test_a_newer_format_is_refused_and_left_where_it_is(store: CheckpointStore) -> None:
    """An old orch must not throw a newer one's work into quarantine, nor go on without it."""
    reseal(store.root / NEW, version=2)
    with pytest.raises(NewerFormat, match=r"version 2, .* up to 1"):
        store.latest_verified(pytest.fail)
    assert store.candidates() == [NEW, OLD]


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EACCES, errno.ESTALE, errno.ENOMEM])
def test_not_being_able_to_look_is_no_evidence(
    store: CheckpointStore, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Out of descriptors or a stale handle: an OSError, and nothing is moved."""

    def check_entry(root: Path, entry: object, **options: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(verification, "check_entry", check_entry)
        with pytest.raises(OSError, match=os.strerror(number)):
            store.latest_verified(pytest.fail)
    assert store.candidates() == [NEW, OLD]


def test_a_change_after_opening_is_found_when_reading(store: CheckpointStore) -> None:
    """Digests are compared on the very bytes that are returned, not on those read before."""
    loaded = store.latest_verified(pytest.fail)
    assert loaded is not None
    path = loaded.path / FILES[1]
    path.write_bytes(path.read_bytes()[::-1])
    with pytest.raises(BrokenCheckpoint, match="digest differs"):
        loaded.read(FILES[1])
    path.unlink()
    path.symlink_to(store.root / OLD / FILES[1])
    with pytest.raises(BrokenCheckpoint, match="symbolic link"):
        loaded.read(FILES[1])


def test_a_checkpoint_that_was_pruned_while_it_was_read_is_no_damage(
    store: CheckpointStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An older copy of the attempt may read while the newer one prunes: it takes the next."""
    real = verification.check_entry

    def check_entry(root: Path, entry: object, **options: object) -> None:
        if root.name == NEW and root.exists():
            root.rename(store.root.parent / "pruned")
        real(root, entry)  # type: ignore[arg-type]

    monkeypatch.setattr(verification, "check_entry", check_entry)
    loaded = store.latest_verified(pytest.fail)
    assert loaded is not None
    assert loaded.name == OLD
    assert not (store.root / "quarantine").exists() or not list(
        (store.root / "quarantine").iterdir()
    )


def test_the_place_of_the_damage_is_on_record(store: CheckpointStore) -> None:
    """The first wrong MiB of a large file; unknown where the checkpoint is older than that."""
    writer = store.stage(step=30, epoch=1, rank=0)
    entries = [writer.write("big.safetensors", shard(step=1, rank=0)["model.safetensors"] * 800)]
    store.commit(
        header(step=30, epoch=1, ranks=1), [*entries, *writer.finish()][1:], fence=no_fence
    )
    name = "step-00000030.e0001"
    with (store.root / name / "rank-00000/big.safetensors").open("r+b") as opened:
        opened.seek(3_000_000)
        opened.write(bytes(8))
    with pytest.raises(BrokenCheckpoint, match="digest differs") as caught:
        store.verify(name)
    assert caught.value.offset == 2 << 20
    with pytest.raises(BrokenCheckpoint, match="digest differs") as caught:
        store.open(name).read("rank-00000/big.safetensors")
    assert caught.value.offset == 2 << 20
    files = json.loads((store.root / name / "MANIFEST.json").read_bytes())["files"]
    del files[0]["blocks"]
    reseal(store.root / name, files=files)
    with pytest.raises(BrokenCheckpoint, match="digest differs") as caught:
        store.verify(name)
    assert caught.value.offset is None
