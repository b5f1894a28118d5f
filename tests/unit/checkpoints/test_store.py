"""Stage, commit, load: whole or not at all, once, by whoever holds the job."""

from __future__ import annotations

import errno
import os
import stat as status
from pathlib import Path

import pytest
from pydantic import ValidationError

from checkpoints import removal
from checkpoints import store as store_module
from checkpoints.errors import BrokenCheckpoint, Fenced
from checkpoints.manifest import Parent, digest_of
from checkpoints.store import CheckpointStore
from durable import files
from durable.files import AlreadyThere
from tests.unit.checkpoints.fake_attempt import (
    assert_loads,
    header,
    no_fence,
    open_store,
    save,
    stage,
    stage_rank,
)


def silent(report: str) -> None:
    """Fail: nothing is to be reported."""
    pytest.fail(f"reported: {report}")


def committed(store: CheckpointStore, *steps: int, epoch: int = 1) -> list[str]:
    """Commit checkpoints; return their names."""
    return [save(store, step=step, epoch=epoch).name for step in steps]


def test_what_was_saved_is_loaded(store: CheckpointStore) -> None:
    """Every byte of every rank comes back, under the name that step and epoch give."""
    saved = save(store, step=20, epoch=3)
    assert saved.name == "step-00000020.e0003"
    loaded = store.latest_verified(silent)
    assert loaded is not None
    assert_loads(loaded)
    assert loaded.manifest == saved.manifest == store.verify(saved.name)
    assert loaded.digest == saved.digest
    assert saved.digest == digest_of((saved.path / "MANIFEST.json").read_bytes())


def test_an_empty_store_has_nothing_and_creates_nothing(store: CheckpointStore) -> None:
    """Asking does not write: `orch status` looks at jobs that never ran."""
    assert store.candidates() == []
    assert store.latest_verified(silent) is None
    assert store.prune() == []
    assert store.sweep(epoch=1) == []
    assert not store.root.exists()


def test_the_newest_is_the_highest_epoch_then_step(store: CheckpointStore) -> None:
    """Epochs come first: an attempt that fell back to an older step is the newer one."""
    committed(store, 100, 30, epoch=1)
    committed(store, 50, 40, epoch=2)
    assert store.candidates() == [
        "step-00000050.e0002",
        "step-00000040.e0002",
        "step-00000100.e0001",
        "step-00000030.e0001",
    ]


def test_only_exact_names_are_candidates(store: CheckpointStore) -> None:
    """Another spelling of the same number is another directory, so it is nobody's checkpoint."""
    (name,) = committed(store, 20)
    for stranger in ("step-000000020.e0001", "step-00000020.e00001", f"{name}.bak", "step-x.e1"):
        (store.root / stranger).mkdir()
    assert store.candidates() == [name]
    with pytest.raises(ValueError, match="not the name of a checkpoint"):
        store.verify("../checkpoints/" + name)


def test_files_are_private(store: CheckpointStore) -> None:
    """Weights and data positions are the user's alone."""
    saved = save(store, step=20)
    for path in (saved.path, *saved.path.rglob("*")):
        expected = 0o700 if path.is_dir() else 0o600
        assert status.S_IMODE(path.stat().st_mode) == expected


def test_committing_needs_every_rank(store: CheckpointStore) -> None:
    """A world of three with the files of two is not a checkpoint."""
    entries = stage(store, step=20, epoch=1, ranks=2)
    with pytest.raises(ValidationError, match="have no files"):
        store.commit(header(step=20, epoch=1, ranks=3), entries, fence=no_fence)
    assert store.candidates() == []


@pytest.mark.parametrize("damage", ["missing", "short", "extra"])
def test_committing_looks_at_what_was_staged(store: CheckpointStore, damage: str) -> None:
    """What rank 0 was told must lie in staging, in these sizes, and nothing else."""
    entries = stage(store, step=20, epoch=1)
    directory = store.root / "staging" / "step-00000020.e0001.t1" / "rank-00001"
    match damage:
        case "missing":
            (directory / "rng.json").unlink()
        case "short":
            os.truncate(directory / "model.safetensors", 100)
        case "extra":
            (directory / "core").write_bytes(b"")
    with pytest.raises(BrokenCheckpoint, match="rank-00001/"):
        store.commit(header(step=20, epoch=1), entries, fence=no_fence)
    assert store.candidates() == []


def test_a_fenced_attempt_commits_nothing(store: CheckpointStore) -> None:
    """The fence has the last word before the rename."""

    def fence() -> None:
        raise Fenced("epoch 2 holds the job")

    with pytest.raises(Fenced, match="epoch 2"):
        save(store, step=20, fence=fence)
    assert store.candidates() == []


def test_the_fence_is_asked_when_all_is_durable_and_just_before_the_rename(
    store: CheckpointStore,
) -> None:
    """Asked earlier, a slow fsync would lie between the answer and the deed."""
    seen: list[bool] = []

    def fence() -> None:
        staged = store.root / "staging" / "step-00000020.e0001.t1"
        seen.append((staged / "MANIFEST.json").exists())
        assert store.candidates() == []

    save(store, step=20, fence=fence)
    assert seen == [True]


def test_a_checkpoint_is_never_overwritten(store: CheckpointStore) -> None:
    """Neither staged a second time nor replaced by a race between two copies of one epoch."""
    (name,) = committed(store, 20)
    before = (store.root / name / "MANIFEST.json").read_bytes()
    with pytest.raises(AlreadyThere, match="committed already"):
        store.stage(step=20, epoch=1, rank=0)
    other = open_store(store.root.parent / "other")
    entries = stage(other, step=30, epoch=1)
    (other.root / "step-00000030.e0001").mkdir()
    with pytest.raises(AlreadyThere):
        other.commit(header(step=30, epoch=1), entries, fence=no_fence)
    assert (store.root / name / "MANIFEST.json").read_bytes() == before


def test_a_failed_save_is_tried_again_under_a_new_name(store: CheckpointStore) -> None:
    """All ranks count the same tries; files of the dead try are not touched."""
    first = store.stage(step=20, epoch=1, rank=0)
    first.write("state.json", b"half")  # rank 1 fails before its first file: the save is dead
    store.stage(step=20, epoch=1, rank=1)
    saved = save(store, step=20)
    assert (store.root / "staging" / "step-00000020.e0001.t1").is_dir()
    loaded = store.open(saved.name)
    assert_loads(loaded)


def test_ranks_may_agree_on_the_try_themselves(store: CheckpointStore) -> None:
    """Rank 1 failed before it could even begin its first try; the second is number 2."""
    stage_rank(store, step=20, epoch=1, rank=0)
    entries = [
        entry
        for rank in (0, 1)
        for entry in stage_rank(store, step=20, epoch=1, rank=rank, try_number=2)
    ]
    saved = store.commit(header(step=20, epoch=1), entries, fence=no_fence)
    assert_loads(store.open(saved.name))


def test_a_discarded_save_frees_its_space(store: CheckpointStore) -> None:
    """After a full disk the dead shards go, of all tries; no others."""
    stage(store, step=20, epoch=1)
    stage_rank(store, step=20, epoch=1, rank=1)
    stage_rank(store, step=200, epoch=1, rank=0)
    store.discard(step=20, epoch=1)
    staged = [entry.name for entry in (store.root / "staging").iterdir()]
    assert staged == ["step-00000200.e0001.t1"]
    store.discard(step=20, epoch=1)
    saved = [
        entry
        for rank in (0, 1)
        for entry in stage_rank(store, step=20, epoch=1, rank=rank, try_number=9)
    ]
    store.commit(header(step=20, epoch=1), saved, fence=no_fence)


def test_discarding_what_was_never_staged_does_nothing(store: CheckpointStore) -> None:
    """Rank 0 failed before its first file, and cleans up all the same."""
    store.discard(step=20, epoch=1)
    assert not store.root.exists()


def test_only_what_this_store_staged_can_be_committed(store: CheckpointStore) -> None:
    """Rank 0 must have staged through the same object: it knows which try it is."""
    entries = stage(store, step=20, epoch=1)
    with pytest.raises(ValueError, match="not staged through this store"):
        open_store(store.root).commit(header(step=20, epoch=1), entries, fence=no_fence)


def test_a_rename_that_may_not_be_durable_is_taken_back(
    store: CheckpointStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fsync of the parent failed: commit raised, so the name must not remain."""
    committed(store, 10)
    entries = stage(store, step=20, epoch=1)
    real = files.fsync_dir

    def fsync_dir(path: Path) -> None:
        if path == store.root:
            raise OSError(errno.EIO, "Input/output error")
        real(path)

    with monkeypatch.context() as patch:
        patch.setattr(files, "fsync_dir", fsync_dir)
        with pytest.raises(OSError, match="Input/output"):
            store.commit(header(step=20, epoch=1), entries, fence=no_fence)
    assert store.candidates() == ["step-00000010.e0001"]
    assert_loads(store.open(save(store, step=20).name))


def test_the_parent_chain_is_recorded(store: CheckpointStore) -> None:
    """A child names what it resumed from: digest saved = digest loaded."""
    saved = save(store, step=20)
    parent = Parent(name=saved.name, digest=saved.digest)
    entries = stage(store, step=30, epoch=2)
    child = store.commit(header(step=30, epoch=2, parent=parent), entries, fence=no_fence)
    loaded = store.open(child.name)
    assert loaded.manifest.parent == parent
    assert store.open(saved.name).digest == parent.digest


def test_reading_what_is_not_listed_is_a_key_error(store: CheckpointStore) -> None:
    """Also for paths that would leave the directory."""
    loaded = store.open(save(store, step=20).name)
    assert loaded.read("rank-00001/state.json") == b'{"rank":1,"step":20}'
    with pytest.raises(KeyError, match="no rank 2"):
        loaded.read_rank(2)
    for path in ("rank-00000/none", "../../spec.json", "MANIFEST.json"):
        with pytest.raises(KeyError):
            loaded.read(path)


def test_pruning_keeps_two_verified_and_the_protected(store: CheckpointStore) -> None:
    """The oldest go, the best stays."""
    first, second, third, fourth = committed(store, 10, 20, 30, 40)
    assert store.prune(keep=2, protect={second}) == [first]
    assert store.candidates() == [fourth, third, second]
    assert store.prune(keep=2, protect={second}) == []
    assert list((store.root / "trash").iterdir()) == []


def test_a_broken_one_does_not_count_as_kept(store: CheckpointStore) -> None:
    """Two newer ones of which one is bad supersede nothing; and pruning moves no evidence."""
    names = committed(store, 10, 20, 30)
    fresh = open_store(store.root)
    victim = store.root / names[2] / "rank-00000" / "rng.json"
    victim.write_bytes(victim.read_bytes()[::-1])
    assert fresh.prune(keep=2) == []
    assert fresh.candidates() == names[::-1]


def test_each_is_verified_once_per_store(
    store: CheckpointStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pruning after each save reads the new checkpoint, not all that are kept."""
    reads: list[str] = []
    real = store_module.verify

    def verify(path: Path, **arguments: object) -> object:
        reads.append(path.name)
        return real(path, **arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(store_module, "verify", verify)
    committed(store, 10, 20)
    store.prune()
    committed(store, 30)
    store.prune()
    assert sorted(reads) == ["step-00000010.e0001", "step-00000020.e0001", "step-00000030.e0001"]


def test_nothing_goes_unless_the_newer_names_are_durable(
    store: CheckpointStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut could take the newer names back after the older ones are gone."""
    names = committed(store, 10, 20, 30)

    def fsync_dir(path: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(store_module, "fsync_dir", fsync_dir)
    with pytest.raises(OSError, match="Input/output"):
        store.prune()
    assert store.candidates() == names[::-1]


def test_a_name_is_gone_for_good_before_its_contents_go(
    store: CheckpointStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a power cut could bring the name back with half of its files."""
    committed(store, 10, 20, 30)
    events: list[str] = []
    monkeypatch.setattr(removal, "fsync_dir", lambda path: events.append(f"fsync {path.name}"))
    monkeypatch.setattr(removal, "delete", lambda path: events.append(f"delete {path.name[:13]}"))
    store.prune()
    assert events == ["fsync checkpoints", "delete step-00000010"]


def test_pruning_removes_links_and_never_follows_them(store: CheckpointStore) -> None:
    """What somebody linked into a checkpoint stays where it is."""
    names = committed(store, 10, 20, 30)
    precious = store.root.parent / "precious"
    precious.mkdir()
    (precious / "thesis.tex").write_bytes(b"x")
    (store.root / names[0] / "link").symlink_to(precious)
    assert store.prune() == [names[0]]
    assert (precious / "thesis.tex").exists()


def test_busy_files_wait_in_the_trash_for_the_next_sweep(
    store: CheckpointStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A deletion that fails costs nothing but space for a while."""
    names = committed(store, 10, 20, 30)
    with monkeypatch.context() as patch:
        patch.setattr(removal.shutil, "rmtree", lambda *_, **__: None)
        assert store.prune() == [names[0]]
    assert len(list((store.root / "trash").iterdir())) == 1
    assert len(store.sweep(epoch=1)) == 1
    assert list((store.root / "trash").iterdir()) == []


def test_sweeping_takes_older_epochs_only(store: CheckpointStore) -> None:
    """Our own staging is in use, a newer epoch's is none of our business, strangers stay."""
    for epoch in (1, 2, 3):
        stage_rank(store, step=20, epoch=epoch, rank=0)
    staging = store.root / "staging"
    (staging / "notes").mkdir()
    assert store.sweep(epoch=2) == ["step-00000020.e0001.t1"]
    assert sorted(entry.name for entry in staging.iterdir()) == [
        "notes",
        "step-00000020.e0002.t1",
        "step-00000020.e0003.t1",
    ]


def test_sweeping_meets_an_owner_that_was_only_slow(
    store: CheckpointStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The older attempt renames its staging away at the same moment: no harm."""
    stage_rank(store, step=20, epoch=1, rank=0)

    def gone(root: Path, victim: Path) -> None:
        raise FileNotFoundError(errno.ENOENT, "No such file")

    monkeypatch.setattr(removal, "remove", gone)
    assert store.sweep(epoch=2) == []


def test_a_cold_verification_reads_every_byte(store: CheckpointStore) -> None:
    """What the page cache holds is asked to go first; a flipped bit is found as ever."""
    (name,) = committed(store, 10)
    store.verify(name, cold=True)
    path = store.root / name / "rank-00001/rng.json"
    path.write_bytes(path.read_bytes()[::-1])
    with pytest.raises(BrokenCheckpoint, match="digest differs"):
        store.verify(name, cold=True)


def test_of_several_damages_the_first_of_the_manifest_is_named(store: CheckpointStore) -> None:
    """Files are read side by side; the report does not depend on who is quicker."""
    (name,) = committed(store, 10)
    for file in ("rank-00001/state.json", "rank-00000/optimizer.safetensors"):
        path = store.root / name / file
        path.write_bytes(path.read_bytes()[::-1])
    for _ in range(5):
        with pytest.raises(BrokenCheckpoint) as raised:
            store.verify(name)
        assert raised.value.file == "rank-00000/optimizer.safetensors"
