"""Another number of ranks: the same examples, the same losses up to rounding, and said so."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.elastic import CELLS, Pair, follow
from worker.forkserver import ForkServer

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize("pair", CELLS, ids=lambda pair: pair.label)
def test_a_job_goes_on_with_another_number_of_ranks(
    tmp_path: Path, fork_server: ForkServer, pair: Pair
) -> None:
    """With dropout on. The first loss tells: a state that was not refreshed is off by 2e-4."""
    seen = follow(tmp_path, fork_server, pair)

    assert seen.same_until_then
    assert seen.first <= 1e-6
    assert seen.later <= 1e-5
    assert not seen.result.exact
    change = f"world_size {pair.before} -> {pair.after} at step {seen.resumed}"
    assert any(reason.startswith(change) for reason in seen.result.inexact_reasons)
    assert seen.result.waivers == ("world_size",)
    assert seen.result.environment["ranks"] == pair.after
