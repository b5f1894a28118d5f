"""Saves behind the training: retried under a new name, reported, never waited for without end."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from checkpoints.manifest import ManifestHeader, Position
from checkpoints.store import CheckpointStore
from durable import faults
from jobs.contract.paths import JobDir
from tests.unit.worker.test_agreement import run_ranks
from worker import background
from worker.background import BackgroundSaves, InFlight
from worker.channel import Channel
from worker.committer import Committer, PendingSave
from worker.metrics import Curve
from worker.snapshot import HostMemory, RankState

DIGEST = "sha256:" + "0" * 64


@pytest.fixture
def fault(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that sets ORCH_FAULT."""

    def set_fault(text: str) -> None:
        monkeypatch.setenv("ORCH_FAULT", text)
        faults.reset()

    yield set_fault
    monkeypatch.undo()
    faults.reset()


def _pending(rank: int, world: int, step: int = 6) -> PendingSave:
    layout = {"rank": rank, "world_size": world, "zero_stage": 2}
    state = RankState(
        model={"w": torch.ones(3)} if rank == 0 else {},
        optimizer={"m": torch.full((2,), float(rank))},
        rng={"torch": torch.zeros(4, dtype=torch.uint8)},
        buffers={},
        state={"layout": layout},
    )
    header = ManifestHeader(
        epoch=1,
        step=step,
        kind="periodic",
        world_size=world,
        position=Position(samples=step, order_digest=DIGEST),
        states=(),
    )
    copies: Any = SimpleNamespace(state=lambda: state, nbytes=100)
    return PendingSave(header=header, copies=copies, best=None, began=0.0)


def _saves(root: Path, channel: Channel) -> tuple[BackgroundSaves, CheckpointStore]:
    save = SimpleNamespace(keep=2, keep_every_steps=None, read_back=False)
    run = SimpleNamespace(save=save)
    job = JobDir(root)
    job.epochs.mkdir(exist_ok=True)
    site = SimpleNamespace(node_scratch_root=None)
    attempt: Any = SimpleNamespace(
        epoch=1, job=job, spec=SimpleNamespace(run=run), assignment=SimpleNamespace(site=site)
    )
    store = CheckpointStore(root / "checkpoints", job="0" * 16, spec_digest="1" * 64)
    curve = Curve(root / f"curve{channel.rank}")
    beside = Committer(
        attempt=attempt, store=store, channel=channel, curve=curve, say=lambda line: None
    )
    memory = HostMemory(keep=True)
    sibling = channel.sibling("background", timeout_seconds=5.0)
    saves = BackgroundSaves(
        attempt=attempt, store=store, channel=sibling, beside=beside, memory=memory
    )
    return saves, store


def _save(root: Path) -> Callable[[Channel], tuple[dict[str, Any], list[str]]]:
    def body(channel: Channel) -> tuple[dict[str, Any], list[str]]:
        saves, _ = _saves(root, channel)
        saves.start(_pending(channel.rank, channel.world_size))
        assert saves.current is not None
        assert saves.current.wait(lambda: False)
        saves.current.join()
        assert saves.current.error is None
        return saves.current.verdict or {}, list(saves.heard())

    return body


def test_a_failed_save_is_tried_once_more_under_a_new_name(tmp_path: Path, fault: Any) -> None:
    """One file of one rank fails once: said on all ranks, then committed, and nothing is left."""
    fault("stage.before_write:errno=EIO@2")

    results = run_ranks(2, _save(tmp_path))

    names = {verdict["name"] for verdict, _ in results}
    assert names == {"step-00000006.e0001"}
    for _, heard in results:
        (line,) = heard
        assert "step 6 not saved: rank" in line
        assert line.endswith("it is tried once more")
    assert not list((tmp_path / "checkpoints/staging").iterdir())


def test_after_two_failures_all_ranks_know_and_nothing_is_left(tmp_path: Path, fault: Any) -> None:
    """The disk stays full: two lines, one verdict, the staging directory is empty."""
    fault("stage.before_write:errno=ENOSPC@1+")

    results = run_ranks(2, _save(tmp_path))

    assert all("No space left" in verdict["problem"] for verdict, _ in results)
    assert [len(heard) for _, heard in results] == [2, 2]
    assert not list((tmp_path / "checkpoints/staging").iterdir())


def test_ranks_that_do_not_come_are_not_waited_for_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rank is gone and the attempt ends: the others give the save up, committing nothing."""
    monkeypatch.setattr(background, "PEER_SECONDS", 0.0)

    def body(channel: Channel) -> dict[str, Any]:
        if channel.rank == 1:
            return {}
        saves, store = _saves(tmp_path, channel)
        saves.start(_pending(0, 2))
        saves.leave()
        assert saves.current is not None
        assert saves.current.wait(lambda: False)
        assert store.candidates() == []
        return saves.current.verdict or {}

    verdict, _ = run_ranks(2, body)

    assert "a rank has not staged its part" in verdict["problem"]


def test_what_goes_wrong_in_the_thread_is_not_lost() -> None:
    """It is decided, with the error to be raised where the training can hear it."""

    def work(save: InFlight) -> None:
        raise MemoryError("in the thread")

    save = InFlight(_pending(0, 1), work)

    assert save.wait(lambda: False)
    assert isinstance(save.error, MemoryError)
    assert save.verdict is None


def test_a_wait_can_be_given_up() -> None:
    """Its bound is the waiting one's to say; the save goes on."""
    looks = itertools.count()
    go_on: list[bool] = []

    def work(save: InFlight) -> None:
        while not go_on:
            pass
        save.decide({"name": "n"})

    save = InFlight(_pending(0, 1), work)

    assert not save.wait(lambda: next(looks) > 1)
    assert not save.decided
    go_on.append(True)
    assert save.wait(lambda: False)
    assert save.verdict == {"name": "n"}


def test_the_bound_of_a_wait_grows_with_what_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ranks with small parts wait for one that writes 3 GB slowly, and not for ever."""
    bounds: list[float | None] = []

    def body(channel: Channel) -> dict[str, Any]:
        saves, _ = _saves(tmp_path, channel)
        for name in ("collect", "tell"):
            waits = getattr(Channel, name)

            def noting(self: Channel, *args: Any, waits: Any = waits, **options: Any) -> Any:
                bounds.append(options["timeout_seconds"])
                return waits(self, *args, **options)

            monkeypatch.setattr(Channel, name, noting)
        pending = _pending(0, 1)
        big = dataclasses.replace(
            pending, copies=SimpleNamespace(state=pending.copies.state, nbytes=3_000_000_000)
        )
        saves.start(big)
        assert saves.current is not None
        assert saves.current.wait(lambda: False)
        return saves.current.verdict or {}

    (verdict,) = run_ranks(1, body)

    assert "name" in verdict
    assert bounds == [5.0 + 300.0, 5.0 + 300.0]


def test_a_save_of_an_older_epoch_is_fenced_and_not_tried_again(tmp_path: Path) -> None:
    """A newer epoch holds the job when the thread commits: nothing is committed, one verdict."""

    def body(channel: Channel) -> tuple[dict[str, Any], list[str], list[str]]:
        saves, store = _saves(tmp_path, channel)
        (tmp_path / "epochs/0002.json").write_bytes(b"{}")
        saves.start(_pending(0, 1))
        assert saves.current is not None
        assert saves.current.wait(lambda: False)
        return saves.current.verdict or {}, list(saves.heard()), store.candidates()

    ((verdict, heard, names),) = run_ranks(1, body)

    assert "fenced" in verdict
    assert (heard, names) == ([], [])
