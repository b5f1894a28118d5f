"""Data order: a pure function of (seed, step, rank, micro-step, slot).

The stream of samples is the concatenation of one permutation per data epoch, cut into global
batches: every sample comes once per data epoch, none is dropped, and a batch may straddle two
data epochs. Resuming skips nothing and replays nothing. A step's set of samples does not depend
on the number of ranks.

The permutation sorts the raw output of a counter-based generator: numpy promises that stream
for all versions, which it does not for `Generator.permutation`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]


@lru_cache(maxsize=4)  # a batch touches two data epochs; a test may have two orders at once
def permutation(seed: int, data_epoch: int, samples: int) -> Indices:
    """Return the order of `samples` indices in one data epoch; int64, read-only."""
    key = hashlib.sha256(f"orch data order {seed} {data_epoch}".encode()).digest()[:16]
    raw = np.random.Philox(key=int.from_bytes(key, "little")).random_raw(samples)
    order = np.argsort(raw, kind="stable").astype(np.int64)
    order.setflags(write=False)
    return order


@dataclass(frozen=True, slots=True, kw_only=True)
class DataOrder:
    """The order of one job's training samples. Steps count from 1."""

    seed: int
    samples: int
    global_batch: int

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ValueError("there are no training samples")

    def sample(self, position: int) -> int:
        """Return the sample at a position of the stream (from 0)."""
        data_epoch, offset = divmod(position, self.samples)
        return int(permutation(self.seed, data_epoch, self.samples)[offset])

    def global_samples(self, step: int) -> list[int]:
        """Return the samples of a step, in stream order; `global_batch` of them."""
        start = (step - 1) * self.global_batch
        return [self.sample(start + offset) for offset in range(self.global_batch)]

    def micro_batch(
        self, step: int, *, rank: int, world_size: int, micro: int, size: int
    ) -> list[int]:
        """Return a rank's samples in micro-step `micro` (from 0) of a step; `size` of them."""
        start = (step - 1) * self.global_batch + micro * world_size * size + rank * size
        return [self.sample(start + slot) for slot in range(size)]

    @staticmethod
    def micro_batch_number(micro: int, *, rank: int, world_size: int) -> int:
        """Return which of a step's micro-batches (from 0, over all ranks, in stream order) it is.

        Of one size they hold the same samples for every number of ranks.
        """
        return micro * world_size + rank

    @property
    def digest(self) -> str:
        """Identify the whole order: equal digests give equal batches at every step."""
        text = f"orch order 1 {self.seed} {self.samples} {self.global_batch}"
        return "sha256:" + hashlib.sha256(text.encode()).hexdigest()
