"""Compacter layers: linear layers as sums of Kronecker products (Karimi Mahabadi et al. 2021).

arXiv 2106.04647. The weight is sum over i of rule[i] (n x n) (x) left[i] right[i], the second of
rank 1; the rules are shared by all adapters of a model.
"""

from __future__ import annotations

import torch
from torch import nn

RULE_STD = 0.01


def new_rule(blocks: int) -> nn.Parameter:
    """Return the rules that all layers share: (blocks, blocks, blocks)."""
    return nn.Parameter(torch.randn(blocks, blocks, blocks) * RULE_STD)


class KroneckerLinear(nn.Module):
    """(…, inputs) -> (…, outputs); both must be multiples of the number of blocks."""

    def __init__(self, inputs: int, outputs: int, rule: nn.Parameter, *, zero: bool) -> None:
        super().__init__()
        blocks = rule.shape[0]
        self.rule = rule
        self.left = nn.Parameter(torch.empty(blocks, inputs // blocks, 1))
        self.right = nn.Parameter(torch.zeros(blocks, 1, outputs // blocks))
        self.bias = nn.Parameter(torch.zeros(outputs))
        nn.init.xavier_uniform_(self.left)
        if not zero:
            nn.init.xavier_uniform_(self.right)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Return the product with the weight, plus the bias."""
        product = torch.einsum("iab,icd->acbd", self.rule, self.left @ self.right)
        rows, columns = self.left.shape[0] * self.left.shape[1], self.bias.shape[0]
        return states @ product.reshape(rows, columns) + self.bias


class KroneckerBottleneck(nn.Module):
    """Down to `rank`, ReLU, up again. Zero until it has been trained."""

    def __init__(self, width: int, rank: int, rule: nn.Parameter) -> None:
        super().__init__()
        self.down = KroneckerLinear(width, rank, rule, zero=False)
        self.up = KroneckerLinear(rank, width, rule, zero=True)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Return what is added."""
        added: torch.Tensor = self.up(torch.relu(self.down(states)))
        return added
