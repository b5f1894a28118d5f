"""A rank's state survives its files; whatever is not such a file is refused by its name."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from worker.snapshot import RankState, SnapshotBroken, SnapshotError, SnapshotMismatch
from worker.snapshot.capture import describe
from worker.snapshot.files import decode, encode, files_needed, files_written, rank_path


def _state(*, rank: int = 0, world_size: int = 2, zero_stage: int = 2) -> RankState:
    model = {"w": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2, dtype=torch.bfloat16)}
    optimizer = {"master/group00000": torch.randn(5), "inner/group00000/step": torch.tensor(3.0)}
    written = files_written(rank, zero_stage)
    parts = {
        "model": model if "model.safetensors" in written else {},
        "optimizer": optimizer if "optimizer.safetensors" in written else {},
        "rng": {"torch": torch.arange(9, dtype=torch.uint8)},
        "buffers": {"norm.mean": torch.zeros(3)},
    }
    state: dict[str, Any] = {
        "format": 1,
        "layout": {"rank": rank, "world_size": world_size, "zero_stage": zero_stage},
        "counters": {"global_steps": 3},
        "accumulation": 1,
        "param_groups": [{"lr": 0.1 + 0.2}],
        "loss_scaler": None,
        "rng": {"device": "cpu"},
        "digests": {},
        "tensors": {name: describe(tensors) for name, tensors in parts.items()},
    }
    return RankState(state=state, **parts)


def _files(zero_stage: int, world_size: int = 2) -> dict[str, bytes]:
    return {
        rank_path(rank, name): data
        for rank in range(world_size)
        for name, data in encode(
            _state(rank=rank, world_size=world_size, zero_stage=zero_stage)
        ).items()
    }


@pytest.mark.parametrize("zero_stage", range(4))
@pytest.mark.parametrize("rank", [0, 1])
def test_what_a_rank_needs_is_among_what_the_ranks_write(zero_stage: int, rank: int) -> None:
    """And decoding needs nothing else; numbers come back bit for bit."""
    files = _files(zero_stage)
    needed = files_needed(rank, 2, zero_stage)
    assert set(needed) <= set(files)

    state = decode(
        {path: files[path] for path in needed}, rank=rank, world_size=2, zero_stage=zero_stage
    )

    assert state.state["param_groups"] == [{"lr": 0.1 + 0.2}]
    assert torch.equal(state.rng["torch"], torch.arange(9, dtype=torch.uint8))
    assert list(state.buffers) == ["norm.mean"]
    assert ("w" in state.model) == (zero_stage < 3)
    assert state.optimizer["inner/group00000/step"].shape == ()


def test_the_table_of_files() -> None:
    """Who stores what, and who needs whose: the contract with the checkpoint's layout."""
    own = ["rank-00001/rng.safetensors", "rank-00001/state.json"]
    assert files_needed(1, 2, 0) == [
        "rank-00000/model.safetensors", "rank-00000/optimizer.safetensors", *own
    ]  # fmt: skip
    for stage in (1, 2):
        assert files_needed(1, 2, stage) == [
            "rank-00000/model.safetensors", "rank-00001/optimizer.safetensors", *own
        ]  # fmt: skip
    assert files_needed(1, 2, 3) == ["rank-00001/optimizer.safetensors", *own]
    assert files_written(1, 0) == ["rng.safetensors", "state.json"]
    with pytest.raises(ValueError, match="rank 2 of 2"):
        files_needed(2, 2, 1)


def test_the_same_state_gives_the_same_bytes() -> None:
    """Two captures of one state have one digest."""
    state = _state()

    assert encode(state) == encode(state)


@pytest.mark.parametrize("path", files_needed(1, 2, 2))
@pytest.mark.parametrize("damage", ["missing", "empty", "short", "text"])
def test_a_damaged_file_is_named(path: str, damage: str) -> None:
    """No damage passes as an empty or a smaller state."""
    files = _files(2)
    match damage:
        case "missing":
            del files[path]
        case "empty":
            files[path] = b""
        case "short":
            files[path] = files[path][:-3]
        case "text":
            files[path] = b"not what it was, and long enough to have a header"

    with pytest.raises(SnapshotBroken) as caught:
        decode(files, rank=1, world_size=2, zero_stage=2)
    assert path in str(caught.value)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda state: state.pop("counters"), "counters"),
        (lambda state: state.update(tensors=[]), "tensors"),
        (lambda state: state.pop("loss_scaler"), "loss_scaler"),
        (lambda state: state["tensors"].pop("rng"), "list"),
        (lambda state: state["tensors"]["optimizer"].pop("master/group00000"), "master/group00000"),
        (lambda state: state["tensors"]["model"].update(ghost=["float32", [1]]), "ghost"),
        (lambda state: state["tensors"]["rng"].update(torch=["uint8", [8]]), "torch"),
    ],
)
def test_a_state_that_does_not_list_its_tensors_is_refused(change: Any, word: str) -> None:
    """A tensor that is absent from file and list alike would be missed by the engine only."""
    files = _files(2)
    state = json.loads(files["rank-00000/state.json"])
    change(state)
    files["rank-00000/state.json"] = json.dumps(state).encode()

    with pytest.raises(SnapshotError, match=word):
        decode(files, rank=0, world_size=2, zero_stage=2)


def test_files_of_another_rank_do_not_pass() -> None:
    """Swapping two ranks' optimizer files of different sizes is noticed."""
    files = _files(2)
    other = _state(rank=1)
    other.optimizer["master/group00000"] = torch.randn(7)
    files["rank-00000/optimizer.safetensors"] = encode(other)["optimizer.safetensors"]

    with pytest.raises(SnapshotMismatch, match="master/group00000"):
        decode(files, rank=0, world_size=2, zero_stage=2)
