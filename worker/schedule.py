"""The learning rate as a pure function of the step: there is no state to save or to lose."""

from __future__ import annotations

import math

from jobs.spec import TrainSpec


def lr_at(train: TrainSpec, step: int) -> float:
    """Return the learning rate of the step that follows `step` completed ones (0-based).

    Warm-up rises linearly and reaches `train.lr` at the step `warmup_steps - 1`; then `linear`
    and `cosine` fall towards 0, which they would reach at the step `train.steps`.
    Raises ValueError for a step outside 0 … train.steps - 1.
    """
    if not 0 <= step < train.steps:
        raise ValueError(f"step {step} is not one of 0 … {train.steps - 1}")
    if step < train.warmup_steps:
        return train.lr * (step + 1) / train.warmup_steps
    passed = (step - train.warmup_steps) / (train.steps - train.warmup_steps)
    match train.schedule:
        case "linear":
            return train.lr * (1.0 - passed)
        case "cosine":
            return train.lr * 0.5 * (1.0 + math.cos(math.pi * passed))
        case "constant":
            return train.lr
