"""What one job is: the resolved, immutable spec.

`Semantic` (of a command: `CommandSemantic`) is everything that may change the result; `Run` is
everything that may not. A job's id is the hash of its semantic part with defaults omitted, so that
a field added later with a default leaves every old id as it was (`tests/unit/jobs/fixtures` holds
ids of each release).

Units are in names; sizes are positive; unknown keys are refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Discriminator, Field, NonNegativeInt, Tag, field_validator, model_validator

from jobs.known_tasks import TEXT_METRICS
from jobs.names import check_job_name
from jobs.specs.base import SpecModel
from jobs.specs.command import CommandSpec
from jobs.specs.method import (
    AdapterSpec,
    ApetSpec,
    BitfitSpec,
    CompacterSpec,
    FullSpec,
    Ia3Spec,
    LoraSpec,
    MethodSpec,
    ParallelAdapterSpec,
    PrefixSpec,
    PromptSpec,
    SubsetSpec,
    virtual_tokens,
)
from jobs.specs.model import Family, ModelSpec, TokenizerSpec
from jobs.specs.run import RehearsalSpec, ResourcesSpec, ResumeSpec, RetrySpec, Run, SaveSpec
from jobs.specs.task import TaskSpec
from jobs.specs.train import EngineSpec, TrainSpec

__all__ = [
    "AdapterSpec",
    "ApetSpec",
    "BitfitSpec",
    "CommandSemantic",
    "CommandSpec",
    "CompacterSpec",
    "EngineSpec",
    "Family",
    "FullSpec",
    "Ia3Spec",
    "JobSemantic",
    "JobSpec",
    "LoraSpec",
    "MethodSpec",
    "ModelSpec",
    "ParallelAdapterSpec",
    "PrefixSpec",
    "PromptSpec",
    "RehearsalSpec",
    "ResourcesSpec",
    "ResumeSpec",
    "RetrySpec",
    "Run",
    "SaveSpec",
    "Semantic",
    "SpecModel",
    "SubsetSpec",
    "TaskSpec",
    "TokenizerSpec",
    "TrainSpec",
    "canonical_json",
    "job_id",
    "seed_block",
    "semantic_digest",
    "virtual_tokens",
]


class Semantic(SpecModel):
    """All that may change the result of a training."""

    model: ModelSpec
    method: MethodSpec
    task: TaskSpec
    train: TrainSpec
    engine: EngineSpec = EngineSpec()
    seed: NonNegativeInt
    code_digest: str | None = None

    @property
    def total_steps(self) -> int:
        """Steps of the whole job."""
        return self.train.steps

    @property
    def micro_batch(self) -> int:
        """Examples per rank and micro-step."""
        return self.train.micro_batch or self.train.global_batch // self.engine.ranks

    @property
    def accumulation(self) -> int:
        """Micro-steps per step."""
        return self.train.global_batch // (self.micro_batch * self.engine.ranks)

    @model_validator(mode="after")
    def _family_can_answer(self) -> Semantic:
        if self.model.family == "encoder" and self.task.new_tokens:
            wanted = sorted(TEXT_METRICS.intersection(self.task.measured))
            raise ValueError(
                f"`model.family` encoder writes no text: metric {wanted[0]} needs decoder or"
                " seq2seq"
            )
        return self

    @model_validator(mode="after")
    def _batch_divides(self) -> Semantic:
        batch, ranks = self.train.global_batch, self.engine.ranks
        micro = self.train.micro_batch or batch // ranks
        if micro == 0 or batch % (micro * ranks):
            raise ValueError(
                f"`train.global_batch` {batch} is not a multiple of micro_batch × ranks"
                f" = {micro} × {ranks}"
            )
        return self


class CommandSemantic(SpecModel):
    """All that may change the result of a command."""

    command: CommandSpec
    engine: EngineSpec = EngineSpec()  # ranks and threads; the rest is of trainings
    seed: NonNegativeInt
    code_digest: str | None = None  # of the snapshot of `command.code`, filled in at submission

    @property
    def total_steps(self) -> int:
        """0: only the command knows, and says so while it runs."""
        return 0


def _kind_of_semantic(value: Any) -> str:
    if isinstance(value, CommandSemantic):
        return "command"
    return "command" if isinstance(value, Mapping) and "command" in value else "training"


JobSemantic = Annotated[
    Annotated[Semantic, Tag("training")] | Annotated[CommandSemantic, Tag("command")],
    Discriminator(_kind_of_semantic),
]


class JobSpec(SpecModel):
    """spec.json."""

    schema_version: int = 1
    id: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
    name: str
    semantic: JobSemantic
    run: Run = Run()

    @field_validator("name")
    @classmethod
    def _name_is_allowed(cls, name: str) -> str:
        return check_job_name(name)

    @model_validator(mode="after")
    def _id_is_the_hash(self) -> JobSpec:
        if self.id != job_id(self.semantic):
            raise ValueError(f"id {self.id} is not the hash of the semantic part")
        return self

    def to_json(self) -> bytes:
        """Return spec.json's bytes."""
        return canonical_json(self.model_dump(mode="json")) + b"\n"


def canonical_json(value: Any) -> bytes:
    """Return the one JSON text of a value: sorted keys, no spaces, ASCII, no NaN."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    ).encode()


def semantic_digest(semantic: Semantic | CommandSemantic) -> str:
    """Return the hex sha256 of the canonical semantic part, defaults omitted."""
    return hashlib.sha256(
        canonical_json(semantic.model_dump(mode="json", exclude_defaults=True))
    ).hexdigest()


def seed_block(semantic: Semantic | CommandSemantic) -> str:
    """Return what the jobs of one cell with different seeds have in common: 16 hex digits."""
    without = semantic.model_dump(mode="json", exclude_defaults=True, exclude={"seed"})
    return hashlib.sha256(canonical_json(without)).hexdigest()[:16]


def job_id(semantic: Semantic | CommandSemantic) -> str:
    """Return the job id: the first 16 hex digits of `semantic_digest`."""
    return semantic_digest(semantic)[:16]
