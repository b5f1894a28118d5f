"""The losses of the steps since the last reduction: reduced in chunks, not once per step."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.distributed as dist

from worker.schedule import lr_at
from worker.session import Session

REDUCE_EVERY_STEPS = 10


class Diverged(ArithmeticError):
    """The loss is no number any more: nothing that follows would be a result."""


class StepLosses:
    """This rank's micro-step losses, kept on the device until the ranks put them together."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._waiting: list[tuple[int, torch.Tensor]] = []

    def add(self, step: int, micro_losses: Sequence[torch.Tensor]) -> None:
        """Remember a step's losses; put a full chunk together. All ranks call it alike."""
        self._waiting.append((step, torch.stack(list(micro_losses)).double().mean()))
        if step % REDUCE_EVERY_STEPS == 0:
            self.reduce()

    def reduce(self) -> None:
        """Turn what waits into rows of the curve. A collective: all ranks at the same step."""
        if not self._waiting:
            return
        steps = [step for step, _ in self._waiting]
        means = mean_over_ranks(torch.stack([loss for _, loss in self._waiting]))
        self._waiting.clear()
        train = self._session.semantic.train
        for step, loss in zip(steps, means, strict=True):
            if not math.isfinite(loss):  # seen by all ranks, before anything of it is saved
                raise Diverged(
                    f"the loss is {loss} at step {step}: lower train.lr, add train.warmup_steps"
                    " or set train.max_grad_norm"
                )
            self._session.curve.add(
                {
                    "step": step,
                    "loss": loss,
                    "lr": lr_at(train, step - 1),
                    "samples": step * train.global_batch,
                }
            )
        self._session.progress.update(loss=means[-1])


def mean_over_ranks(values: torch.Tensor) -> list[float]:
    """Return the elementwise mean of a float64 vector over the ranks, summed in rank order.

    Not all_reduce: its order of summation depends on where in the chunk an element lies, so a
    chunk cut short by a preemption would round differently.
    """
    shares = [torch.empty_like(values) for _ in range(dist.get_world_size())]
    if len(shares) == 1:
        shares = [values]
    else:
        dist.all_gather(shares, values.contiguous())
    total = shares[0].clone()
    for share in shares[1:]:
        total += share
    means: list[float] = (total / len(shares)).tolist()
    return means
