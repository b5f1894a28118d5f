"""The method `subset`: which tensors are trained."""

from __future__ import annotations

import pytest
import torch

from jobs.spec import SubsetSpec
from worker.failures import Misconfigured
from worker.methods import apply_method


class Model(torch.nn.Module):
    """Nine tensors of a known size."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList(torch.nn.Linear(4, 4) for _ in range(4))
        self.tied = torch.nn.Parameter(torch.zeros(100))


def picked(parameters: int, seed: int) -> dict[str, int]:
    """Return the sizes of the trained tensors by name."""
    method = SubsetSpec(name="subset", parameters=parameters)
    model = apply_method(Model(), method, seed=seed)
    return {name: p.numel() for name, p in model.named_parameters() if p.requires_grad}


def test_the_seed_alone_picks_and_the_budget_holds() -> None:
    """The same tensors in every process and at every resume; others for another seed."""
    for seed in range(20):
        torch.manual_seed(seed + 1)  # the caller's generator must not matter
        chosen = picked(40, seed)
        assert chosen == picked(40, seed)
        assert 0 < sum(chosen.values()) <= 40
    assert len({tuple(picked(40, seed)) for seed in range(20)}) > 5


def test_a_budget_that_cannot_be_met_is_refused_with_the_numbers() -> None:
    """Nothing trained, or more than there is, would be a silent surprise."""
    for parameters in (3, 181):
        with pytest.raises(Misconfigured, match=r"method\.parameters .* from 4 to 180"):
            picked(parameters, seed=1)
