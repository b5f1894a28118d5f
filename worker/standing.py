"""Where a run stands: what a checkpoint must hold besides tensors and random states."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict

from checkpoints.manifest import Parent


class BestSoFar(BaseModel):
    """The best dev evaluation so far; its weights are kept as `best.safetensors`."""

    model_config = ConfigDict(frozen=True)

    step: int
    metrics: dict[str, float]

    def beaten_by(self, metrics: dict[str, float], *, metric: str) -> bool:
        """Tell whether `metrics` are strictly better: of equal ones the earlier stays."""
        if metric == "loss":
            return metrics[metric] < self.metrics[metric]
        return metrics[metric] > self.metrics[metric]


class StandingRecord(BaseModel):
    """The JSON part, in the manifest's `extra`."""

    model_config = ConfigDict(frozen=True)

    evaluation_pending: bool = False
    best: BestSoFar | None = None
    dev: dict[str, float] | None = None  # at the last evaluation
    resumed_steps: tuple[int, ...] = ()
    inexact_reasons: tuple[str, ...] = ()
    waived: tuple[str, ...] = ()  # names of what was let pass on the way here
    data_digest: str
    vocabulary_digest: str
    micro_batch: int
    save_seconds: float | None = None  # what the save before this one took


@dataclass(slots=True, kw_only=True)
class Standing:
    """A rank's view; equal on all ranks at a step boundary."""

    data_digest: str
    vocabulary_digest: str
    micro_batch: int
    step: int = 0
    evaluation_pending: bool = False
    best: BestSoFar | None = None
    best_tensors: dict[str, torch.Tensor] | None = None
    dev: dict[str, float] | None = None
    resumed_steps: tuple[int, ...] = ()
    inexact_reasons: tuple[str, ...] = ()
    waived: tuple[str, ...] = ()
    parent: Parent | None = None  # the newest committed checkpoint on the chain
    changed: bool = False  # since the last commit
    committed_here: bool = field(default=False)  # this attempt committed a checkpoint
    committed_step: int | None = None
    save_seconds: float | None = None

    def record(self) -> dict[str, Any]:
        """Return the JSON part."""
        fields = {name: getattr(self, name) for name in StandingRecord.model_fields}
        return StandingRecord(**fields).model_dump(mode="json")

    def resume(self, step: int, record: StandingRecord, parent: Parent) -> None:
        """Take over what a checkpoint says; the best tensors are the caller's to restore."""
        self.step = step
        self.evaluation_pending = record.evaluation_pending
        self.best, self.dev = record.best, record.dev
        self.resumed_steps = (*record.resumed_steps, step)
        self.inexact_reasons = record.inexact_reasons
        self.waived = record.waived
        self.parent, self.committed_step = parent, step
        self.save_seconds = record.save_seconds
        self.changed = False

    def add_waived(self, names: Iterable[str]) -> None:
        """Add names of what was let pass, each once."""
        self.waived = tuple(dict.fromkeys([*self.waived, *names]))

    def add_reasons(self, reasons: Iterable[str]) -> None:
        """Add reasons why the result cannot be called exact, each once."""
        self.inexact_reasons = tuple(dict.fromkeys([*self.inexact_reasons, *reasons]))
