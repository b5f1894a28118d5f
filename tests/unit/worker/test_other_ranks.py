"""Another number of ranks: the same examples in the same order, and every file that is needed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from checkpoints.manifest import Manifest
from jobs.contract.records import Overrides
from jobs.geometry import batch_geometry
from tests.unit.jobs.test_geometry import semantic
from tests.unit.worker.test_continuity import DIGEST, MANIFEST, STANDING, found
from worker.comparison import Comparison
from worker.continuity import effective_waivers, judge
from worker.machine import seed_micro_batch
from worker.order import DataOrder
from worker.snapshot import files_read
from worker.snapshot.files import rank_path
from worker.standing import StandingRecord


@given(
    batch=st.integers(1, 48), ranks=st.integers(1, 8), now=st.integers(1, 8), step=st.integers(1, 9)
)
def test_other_ranks_see_the_same_examples_in_the_same_order(
    batch: int, ranks: int, now: int, step: int
) -> None:
    """Of every step, whatever number of ranks divides the global batch.

    Where the micro-batch keeps its size, the one of each number in the step is the same, too.
    """
    assume(batch % ranks == 0 and batch % now == 0)
    order = DataOrder(seed=3, samples=31, global_batch=batch)

    def numbered(wanted: int) -> list[list[int]]:
        cut = batch_geometry(semantic(ranks=ranks, batch=batch), Overrides(ranks=wanted))
        dealt: dict[int, list[int]] = {}
        for rank in range(wanted):
            for micro in range(cut.accumulation):
                number = order.micro_batch_number(micro, rank=rank, world_size=wanted)
                dealt[number] = order.micro_batch(
                    step, rank=rank, world_size=wanted, micro=micro, size=cut.micro_batch
                )
        return [dealt[number] for number in range(len(dealt))]

    fixed, other = numbered(ranks), numbered(now)
    assert [sample for one in other for sample in one] == order.global_samples(step)
    assert len(fixed[0]) != len(other[0]) or fixed == other


def test_each_micro_batch_has_a_random_state_of_its_own() -> None:
    """The same one whenever and wherever it is seeded."""

    def drawn(*place: int) -> float:
        seed_micro_batch(*place)
        return float(torch.rand(()))

    places = [(1, 1, 0), (1, 1, 1), (1, 2, 0), (2, 1, 0), (1, 11, 0), (1, 1, 10)]
    first = [drawn(*place) for place in places]
    assert len(set(first)) == len(places)
    assert [drawn(*place) for place in reversed(places)] == first[::-1]


def test_the_wish_for_other_ranks_needs_no_waiver() -> None:
    """It lets pass what it changes on purpose, and nothing else."""
    waived = effective_waivers((), Overrides(ranks=2))

    assert waived == {"world_size", "batch_geometry"}
    differing = found({"environment": MANIFEST["environment"] | {"threads": 2}}, {"micro_batch": 2})
    assert [d.entry for d in judge(differing, waived).refused] == ["threads"]


def listing(paths: list[str]) -> Manifest:
    """Return a manifest of two ranks."""
    files = [
        {"path": path, "rank": int(path[5:10]), "bytes": 1, "digest": DIGEST} for path in paths
    ]
    return Manifest.model_validate(MANIFEST | {"world_size": 2, "files": files})


@pytest.mark.parametrize("missing", files_read(2, 2))
def test_a_file_that_any_saved_rank_lacks_is_refused_by_name(
    missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a checkpoint is whole: nothing is put away, and nothing made up for."""
    everything = [*files_read(2, 2), rank_path(1, "more")]
    session: Any = SimpleNamespace(
        attempt=SimpleNamespace(
            claim=SimpleNamespace(waivers=(), overrides=Overrides(ranks=1)),
        ),
        channel=SimpleNamespace(world_size=1, rank=0),
        engine=SimpleNamespace(zero_stage=2),
    )
    monkeypatch.setattr("worker.comparison.differences", lambda *_: [])
    monkeypatch.setattr("worker.comparison.present", lambda _: None)

    def refused(paths: list[str]) -> list[tuple[str, str]]:
        opened: Any = SimpleNamespace(manifest=listing(paths))
        looked = Comparison(session, opened, StandingRecord.model_validate(STANDING))
        return [(d["entry"], d["words"]) for d in looked.status()["refused"]]

    assert refused(everything) == []
    entry = missing.rpartition("/")[2].partition(".")[0]
    assert refused([path for path in everything if path != missing]) == [
        (entry, f"{missing} is missing in the manifest")
    ]
