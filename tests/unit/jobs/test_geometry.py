"""The global batch is cut for any number of ranks that divides it, and stays what it is."""

from __future__ import annotations

import json
from typing import Any

import pytest

from jobs.contract.records import Overrides
from jobs.geometry import BadGeometry, batch_geometry, check_ranks
from jobs.spec import CommandSemantic, CommandSpec, JobSpec, Semantic, job_id


def semantic(*, ranks: int, batch: int, micro: int | None = None) -> Semantic:
    """Return a training of this layout."""
    value: dict[str, Any] = {
        "model": {"family": "decoder", "config": {"n_layer": 1}},
        "method": {"name": "full"},
        "task": {"name": "tsv", "path": "package:quickstart"},
        "train": {"steps": 3, "global_batch": batch, "micro_batch": micro},
        "engine": {"ranks": ranks},
        "seed": 1,
    }
    return Semantic.model_validate_json(json.dumps(value))


def make_job(what: Semantic | CommandSemantic, run: dict[str, Any]) -> JobSpec:
    """Return a job of it."""
    value = {"id": job_id(what), "name": "m/one", "semantic": what, "run": run}
    return JobSpec.model_validate(value)


@pytest.mark.parametrize(
    ("ranks", "batch", "micro", "now", "expected"),
    [
        # as many as the spec says: nothing changes
        (2, 8, 2, 2, (2, 2)),
        # the micro-batch stays where it divides the share: the same micro-batches, dealt out anew
        (1, 8, 2, 2, (2, 2)),
        (4, 8, 2, 2, (2, 2)),
        (2, 8, 4, 1, (4, 2)),
        (4, 8, None, 1, (2, 4)),
        # otherwise the next smaller that does
        (1, 8, None, 2, (4, 1)),
        (1, 12, 4, 2, (3, 2)),
        (2, 12, 6, 3, (4, 1)),
        (1, 8, 2, 8, (1, 1)),
    ],
)
def test_each_cut_keeps_the_global_batch(
    ranks: int, batch: int, micro: int | None, now: int, expected: tuple[int, int]
) -> None:
    """micro × accumulation × ranks is what the spec says, always."""
    cut = batch_geometry(semantic(ranks=ranks, batch=batch, micro=micro), Overrides(ranks=now))

    assert (cut.micro_batch, cut.accumulation) == expected
    assert (cut.ranks, cut.global_batch) == (now, batch)


@pytest.mark.parametrize("ranks", [3, 5, 16])
def test_what_does_not_divide_is_refused_with_what_does(ranks: int) -> None:
    """Nobody has to guess."""
    with pytest.raises(BadGeometry, match=r"8 cannot be dealt out .* possible are 1, 2, 4, 8$"):
        batch_geometry(semantic(ranks=2, batch=8), Overrides(ranks=ranks))


def test_a_halved_micro_batch_stays_halved_over_other_ranks() -> None:
    """A device that had no room for 4 examples has none with other peers."""
    cut = batch_geometry(semantic(ranks=2, batch=16, micro=4), Overrides(ranks=4, micro_batch=2))

    assert (cut.micro_batch, cut.accumulation) == (2, 2)


def test_the_job_is_named_and_what_it_can_have() -> None:
    """On two nodes each has as many ranks as the other; a command resumes itself."""
    spec = make_job(semantic(ranks=4, batch=8), {"resources": {"nodes": 2}})
    check_ranks(spec, Overrides(), 2)
    for ranks in (1, 3):
        with pytest.raises(BadGeometry) as caught:
            check_ranks(spec, Overrides(), ranks)
        assert str(caught.value) == (
            f"m/one: train.global_batch 8 cannot be dealt out to {ranks} ranks on"
            " resources.nodes 2; possible are 2, 4, 8"
        )
    command = CommandSemantic(command=CommandSpec(argv=("train",)), seed=1)
    with pytest.raises(BadGeometry, match="m/one is a command"):
        check_ranks(make_job(command, {}), Overrides(), 1)
