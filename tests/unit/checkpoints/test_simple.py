"""The store alone, from any script: kept whole, fenced, and the same verdict on every rank."""

from __future__ import annotations

import errno
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from checkpoints.errors import Fenced
from checkpoints.simple import Checkpoints, SaveFailed
from durable import faults


def files(step: int, rank: int = 0) -> dict[str, bytes]:
    """Return what a rank saves at a step."""
    return {"state.json": f"{step} {rank}".encode(), "model.bin": bytes([step % 256, rank]) * 500}


class Ranks:
    """Two threads that talk as ranks do."""

    def __init__(self, count: int = 2) -> None:
        self.count = count
        self._values: list[str] = [""] * count
        self._barrier = threading.Barrier(count, timeout=20)

    def gather(self, rank: int) -> Callable[[Any], list[Any]]:
        """Return the `gather` of a rank."""

        def gather(mine: Any) -> list[Any]:
            self._values[rank] = json.dumps(mine)
            self._barrier.wait()
            values = [json.loads(value) for value in self._values]
            self._barrier.wait()
            return values

        return gather

    def run(self, work: Callable[[int], Any]) -> list[Any]:
        """Do the same on every rank at once; return what each returned or raised."""
        results: list[Any] = [None] * self.count

        def one(rank: int) -> None:
            try:
                results[rank] = work(rank)
            except Exception as error:
                results[rank] = error

        threads = [threading.Thread(target=one, args=(rank,)) for rank in range(self.count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        return results


def test_what_was_saved_last_is_loaded(tmp_path: Path) -> None:
    """A fresh directory has nothing; then the newest step comes back, with its extra."""
    checkpoints = Checkpoints(tmp_path / "ck")
    assert checkpoints.load() is None
    for step in (10, 20, 30):
        checkpoints.save(step, files(step), extra={"loss": step / 10})

    loaded = Checkpoints(tmp_path / "ck").load()

    assert loaded is not None
    assert (loaded.step, dict(loaded.files), loaded.extra) == (30, files(30), {"loss": 3.0})
    assert loaded.reports == ()
    kept = sorted(path.name for path in (tmp_path / "ck").glob("step-*"))
    assert kept == ["step-00000020.e0001", "step-00000030.e0001"]


def test_a_flipped_bit_costs_one_checkpoint_and_is_said(tmp_path: Path) -> None:
    """The one before is used; the broken one is evidence."""
    checkpoints = Checkpoints(tmp_path / "ck")
    checkpoints.save(10, files(10))
    name = checkpoints.save(20, files(20))
    path = tmp_path / "ck" / name / "rank-00000" / "model.bin"
    path.write_bytes(path.read_bytes()[:-1] + b"!")

    loaded = Checkpoints(tmp_path / "ck").load()

    assert loaded is not None
    assert loaded.step == 10
    assert any(name in line for line in loaded.reports)
    assert (tmp_path / "ck" / "quarantine" / f"{name}.0" / name).is_dir()


def test_a_copy_that_was_opened_earlier_is_told(tmp_path: Path) -> None:
    """Of two copies of a script only the later one saves."""
    earlier = Checkpoints(tmp_path / "ck")
    earlier.save(10, files(10))
    later = Checkpoints(tmp_path / "ck")

    with pytest.raises(Fenced):
        earlier.save(20, files(20))

    later.save(20, files(20))
    assert Checkpoints(tmp_path / "ck").epoch == 3


def test_another_run_is_refused_into_quarantine_and_another_world_size_is_an_error(
    tmp_path: Path,
) -> None:
    """What belongs elsewhere is never loaded; a good one of two ranks is not moved."""
    Checkpoints(tmp_path / "ck", run="one").save(10, files(10))
    assert Checkpoints(tmp_path / "ck", run="two").load() is None
    ranks = Ranks()
    ranks.run(lambda rank: two_ranks(tmp_path, ranks, rank).save(10, files(10, rank)))
    with pytest.raises(ValueError, match="saved by 2 ranks"):
        Checkpoints(tmp_path / "two", run="two").load()


def two_ranks(tmp_path: Path, ranks: Ranks, rank: int) -> Checkpoints:
    """Open a directory from two ranks."""
    return Checkpoints(
        tmp_path / "two", rank=rank, world_size=2, gather=ranks.gather(rank), run="two"
    )


def test_two_ranks_get_back_their_own_files(tmp_path: Path) -> None:
    """Each rank loads what it saved, of one and the same checkpoint."""
    ranks = Ranks()
    names = ranks.run(lambda rank: two_ranks(tmp_path, ranks, rank).save(7, files(7, rank)))
    loaded = ranks.run(lambda rank: two_ranks(tmp_path, ranks, rank).load())

    assert names == ["step-00000007.e0001"] * 2
    assert [dict(one.files) for one in loaded] == [files(7, 0), files(7, 1)]


def test_a_rank_that_cannot_write_fails_the_save_on_every_rank(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is committed, both ranks know, and the next save works."""
    ranks = Ranks()
    opened = ranks.run(lambda rank: two_ranks(tmp_path, ranks, rank))
    monkeypatch.setenv("ORCH_FAULT", "stage.before_write:errno=ENOSPC@2")
    faults.reset()

    failed = ranks.run(lambda rank: opened[rank].save(5, files(5, rank)))

    assert [type(error) for error in failed] == [SaveFailed] * 2
    assert "No space" in str(failed[0]), errno.ENOSPC
    assert not list((tmp_path / "two").glob("step-*"))
    monkeypatch.delenv("ORCH_FAULT")
    faults.reset()
    assert (
        ranks.run(lambda rank: opened[rank].save(6, files(6, rank))) == ["step-00000006.e0001"] * 2
    )


def test_several_ranks_must_be_able_to_talk(tmp_path: Path) -> None:
    """Forgetting `gather` is said at once, not found at the first save."""
    with pytest.raises(ValueError, match="gather"):
        Checkpoints(tmp_path / "ck", rank=0, world_size=2)
