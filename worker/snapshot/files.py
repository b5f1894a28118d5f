"""A rank's state as files of a checkpoint, and back: safetensors and JSON, never pickle.

Decoding starts from bytes only, those that the checkpoint store has verified; nothing is ever
read from a path here. Names are relative to the checkpoint: `rank-00001/optimizer.safetensors`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save

from jobs.spec import canonical_json
from worker.snapshot.capture import describe
from worker.snapshot.state import RankState, SnapshotBroken, SnapshotMismatch, Tensors
from worker.snapshot.tensor_file import tensor_file

MODEL, OPTIMIZER, RNG = "model.safetensors", "optimizer.safetensors", "rng.safetensors"
STATE = "state.json"
# What a file is an entry of, as refusals and waivers name it.
FILE_ENTRIES = {MODEL: "model", OPTIMIZER: "optimizer", RNG: "rng", STATE: "state"}
BUFFER = "buffer/"  # names in RNG, the file of what is private to a rank
MAX_STATE_BYTES = 64 << 20
_FIELDS: dict[str, type] = {
    "format": int,
    "layout": dict,
    "counters": dict,
    "accumulation": int,
    "param_groups": list,
    "rng": dict,
    "digests": dict,
    "tensors": dict,
}


def rank_path(rank: int, name: str) -> str:
    """Return a file's path inside a checkpoint."""
    return f"rank-{rank:05d}/{name}"


def files_written(rank: int, zero_stage: int) -> list[str]:
    """Return the names of the files that `encode` makes for a rank."""
    names = [RNG, STATE]
    if zero_stage < 3 and rank == 0:
        names.append(MODEL)
    if zero_stage > 0 or rank == 0:
        names.append(OPTIMIZER)
    return sorted(names)


def files_needed(rank: int, world_size: int, zero_stage: int) -> list[str]:
    """Return the paths that `decode` needs for a rank: its own, and what rank 0 holds for all.

    ZeRO 0: rank 0 holds model and optimizer. ZeRO 1 and 2: the model. ZeRO 3: nothing, every
    rank has its own partition. Raises ValueError for a rank outside the world.
    """
    if not 0 <= rank < world_size:
        raise ValueError(f"rank {rank} of {world_size}")
    paths = {rank_path(rank, name) for name in files_written(rank, zero_stage)}
    if zero_stage < 3:
        paths.add(rank_path(0, MODEL))
    paths.add(rank_path(0 if zero_stage == 0 else rank, OPTIMIZER))
    return sorted(paths)


def encode(saved: RankState) -> dict[str, bytes]:
    """Return `{file name: bytes}` of one rank's state; the same state gives the same bytes."""
    return {name: b"".join(parts) for name, parts in files_of(saved).items()}


def files_of(saved: RankState) -> dict[str, Sequence[bytes | memoryview]]:
    """Return the files of `encode` as parts, which are views of the state: nothing is copied."""
    layout = saved.state["layout"]
    private = saved.rng | {f"{BUFFER}{name}": tensor for name, tensor in saved.buffers.items()}
    tensors = {MODEL: saved.model, OPTIMIZER: saved.optimizer, RNG: private}
    names = files_written(layout["rank"], layout["zero_stage"])
    files: dict[str, Sequence[bytes | memoryview]] = {
        name: tensor_file(held) for name, held in tensors.items() if name in names
    }
    files[STATE] = [canonical_json(saved.state) + b"\n"]
    return files


def decode(
    files: Mapping[str, bytes],
    *,
    rank: int,
    world_size: int,
    zero_stage: int,
    may_lack_rng: bool = False,
) -> RankState:
    """Return rank `rank`'s state from the bytes of (at least) `files_needed`.

    `may_lack_rng`: the file of what is private to a rank may be missing; its random state is then
    empty. Raises `SnapshotBroken` when a file is missing or unreadable and `SnapshotMismatch`
    when its tensors are not those that state.json lists; both name the file.
    """
    for path in files_needed(rank, world_size, zero_stage):
        if path not in files and not (may_lack_rng and path == rank_path(rank, RNG)):
            raise SnapshotBroken(f"{path}: missing")
    path = rank_path(rank, STATE)
    state = decode_state(path, files[path])
    listed = state["tensors"]

    def tensors_of(owner: int, name: str, part: str) -> Tensors:
        where = rank_path(owner, name)
        tensors = decode_tensors(files[where], where)
        if owner == rank:  # another rank's file is held against this rank's digest of it
            check_contents(where, listed.get(part), tensors)
        return tensors

    where = rank_path(rank, RNG)
    private = decode_tensors(files[where], where) if where in files else {}
    buffers = {n.removeprefix(BUFFER): t for n, t in private.items() if n.startswith(BUFFER)}
    rng = {n: t for n, t in private.items() if not n.startswith(BUFFER)}
    if where in files:
        check_contents(where, listed.get("rng"), rng)
    check_contents(where, listed.get("buffers"), buffers)
    return RankState(
        model={} if zero_stage == 3 else tensors_of(0, MODEL, "model"),
        optimizer=tensors_of(0 if zero_stage == 0 else rank, OPTIMIZER, "optimizer"),
        rng=rng,
        buffers=buffers,
        state=state,
    )


def encode_tensors(tensors: Tensors) -> bytes:
    """Return tensors as one safetensors file (the best weights, for example)."""
    return save({name: tensor.contiguous() for name, tensor in tensors.items()})


def decode_tensors(data: bytes, path: str) -> Tensors:
    """Return the tensors of a safetensors file. Raises `SnapshotBroken` naming `path`."""
    try:
        tensors: Tensors = load(data)
    except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise SnapshotBroken(f"{path}: not a readable safetensors file: {error}") from error
    return tensors


def decode_state(path: str, data: bytes) -> dict[str, Any]:
    """Return what state.json says. Raises `SnapshotBroken` naming `path` and the field."""
    if len(data) > MAX_STATE_BYTES:
        raise SnapshotBroken(f"{path}: larger than {MAX_STATE_BYTES} bytes")
    try:
        state = json.loads(data)
    except ValueError as error:
        raise SnapshotBroken(f"{path}: not JSON: {error}") from error
    if not isinstance(state, dict):
        raise SnapshotBroken(f"{path}: not a JSON object")
    for field, kind in _FIELDS.items():
        if not isinstance(state.get(field), kind):
            raise SnapshotBroken(f"{path}: {field} is missing or is not a {kind.__name__}")
    if "loss_scaler" not in state:
        raise SnapshotBroken(f"{path}: loss_scaler is missing")
    return state


def check_contents(path: str, listed: Any, tensors: Tensors) -> None:
    """Raise `SnapshotMismatch` unless the tensors of a file are those that state.json lists."""
    found = describe(tensors)
    if not isinstance(listed, dict):
        raise SnapshotBroken(f"{path}: state.json does not list its tensors")
    for name in sorted(set(found) | set(listed)):
        if found.get(name) != listed.get(name):
            raise SnapshotMismatch(
                f"{path}: {name} is {found.get(name, 'missing')},"
                f" state.json lists {listed.get(name, 'nothing of that name')}"
            )
