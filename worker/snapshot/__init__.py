"""Training state <-> tensors and plain values; bit-exact, checked before anything changes.

saved = capture(engine)                               # at a step boundary, per rank
files = encode(saved)                                 # {name: bytes}, staged by each rank
saved = decode(bytes_by_path, rank=…, world_size=…, zero_stage=…)
plan = plan_restore(engine, saved)                    # raises before anything is changed
plan.apply()                                          # once all ranks have planned
"""

from __future__ import annotations

from worker.snapshot.capture import Copies, capture, copy_state
from worker.snapshot.digest import base_digest, mapping_digest, weights_digest
from worker.snapshot.files import (
    decode,
    decode_tensors,
    encode,
    encode_tensors,
    files_needed,
    files_of,
    files_written,
)
from worker.snapshot.host_memory import HostMemory
from worker.snapshot.reshape import files_read, reshaped
from worker.snapshot.restore import Restoration, plan_restore, restore
from worker.snapshot.state import (
    NotAtBoundary,
    RankState,
    SnapshotBroken,
    SnapshotError,
    SnapshotMismatch,
    UnsupportedEngine,
)
from worker.snapshot.tensor_file import tensor_file
from worker.snapshot.trained import evaluation_weights, full_trained, load_trained

__all__ = [
    "Copies",
    "HostMemory",
    "NotAtBoundary",
    "RankState",
    "Restoration",
    "SnapshotBroken",
    "SnapshotError",
    "SnapshotMismatch",
    "UnsupportedEngine",
    "base_digest",
    "capture",
    "copy_state",
    "decode",
    "decode_tensors",
    "encode",
    "encode_tensors",
    "evaluation_weights",
    "files_needed",
    "files_of",
    "files_read",
    "files_written",
    "full_trained",
    "load_trained",
    "mapping_digest",
    "plan_restore",
    "reshaped",
    "restore",
    "tensor_file",
    "weights_digest",
]
