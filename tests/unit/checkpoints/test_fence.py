"""The fence and the rename: nothing of an older epoch comes after a newer one's claim."""

from __future__ import annotations

import pytest

from checkpoints.errors import Fenced
from checkpoints.store import CheckpointStore
from tests.unit.checkpoints.fake_attempt import open_store, save


def test_an_attempt_that_passed_the_fence_before_a_claim_renames_nothing_after_it(
    store: CheckpointStore,
) -> None:
    """Check and rename are two steps: a newer epoch that came between them swept what to rename."""
    claimed = [1]

    def fence() -> None:
        if claimed[-1] > 1:
            raise Fenced(f"epoch {claimed[-1]} holds the job")
        claimed.append(2)  # just after the older one's look
        newer = open_store(store.root)
        newer.sweep(epoch=2)
        assert newer.latest_verified(pytest.fail) is None

    with pytest.raises(Fenced, match="epoch 2"):
        save(store, step=20, fence=fence)
    assert store.candidates() == []
