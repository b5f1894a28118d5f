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
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Tag,
    field_validator,
    model_validator,
)

from jobs.names import check_job_name
from jobs.waivers import WAIVED_BY_DEFAULT, Waiver

Family = Literal["decoder", "seq2seq", "encoder"]


class SpecModel(BaseModel):
    """Base: frozen, strict about types, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class TokenizerSpec(SpecModel):
    """Where the tokenizer comes from: a path, or trained from the task's training text."""

    path: str | None = None
    vocab_size: Annotated[int, Field(ge=260, le=1_000_000)] = 512


class ModelSpec(SpecModel):
    """A model: a local path or hub id, or a configuration with random weights of a fixed seed."""

    family: Family
    path: str | None = None
    revision: str | None = None
    architecture: str | None = None  # of `config`; default by family (jobs.catalog)
    config: dict[str, int | float | str | bool] | None = None
    init_seed: NonNegativeInt = 0
    tokenizer: TokenizerSpec = TokenizerSpec()
    content_digest: str | None = None  # of a local directory's files, filled in at submission

    @model_validator(mode="after")
    def _one_source(self) -> ModelSpec:
        if (self.path is None) == (self.config is None):
            raise ValueError("give exactly one of `path` and `config`")
        if self.path is None and self.revision is not None:
            raise ValueError("`revision` belongs to a `path`")
        return self


class LoraSpec(SpecModel):
    """LoRA (Hu et al. 2021, arXiv 2106.09685) through peft."""

    name: Literal["lora"]
    rank: PositiveInt = 8
    alpha: PositiveFloat = 16.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    targets: tuple[str, ...] | None = None  # module names; default by architecture (jobs.catalog)


class FullSpec(SpecModel):
    """Full fine-tuning: every parameter is trained."""

    name: Literal["full"]


class SubsetSpec(SpecModel):
    """A random subset of the model's own tensors: the job's seed picks whole ones."""

    name: Literal["subset"]
    parameters: PositiveInt  # at most so many are trained


MethodSpec = Annotated[LoraSpec | FullSpec | SubsetSpec, Field(discriminator="name")]


class TaskSpec(SpecModel):
    """A task: a directory with `train`, `dev` and `test` files of one format.

    `tsv` has two columns without a header, input and output (CrossFit layout); `jsonl` has one
    object a line. `path` may be `package:NAME` (shipped), a name below the site's data_root, an
    absolute path, or one relative to the matrix file.
    """

    name: Literal["tsv", "jsonl"]
    path: str
    input_field: str = "input"
    output_field: str = "output"
    prompt: str = "Input: {input} Output: "
    max_length: PositiveInt = 64  # tokens, prompt and answer together
    max_train_examples: PositiveInt | None = None
    max_eval_examples: PositiveInt | None = None
    content_digest: str | None = None  # of the files, filled in at submission: new data, new job


class TrainSpec(SpecModel):
    """How long and how to train. A step is an optimizer step."""

    steps: PositiveInt
    global_batch: PositiveInt = 8
    micro_batch: PositiveInt | None = None  # per rank; default: global_batch / ranks
    lr: PositiveFloat = 1e-3
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup_steps: NonNegativeInt = 0
    weight_decay: NonNegativeFloat = 0.0
    adam_betas: tuple[float, float] = (0.9, 0.999)
    adam_epsilon: PositiveFloat = 1e-8
    max_grad_norm: NonNegativeFloat = 1.0  # 0: no clipping
    evaluate_every_steps: PositiveInt | None = None  # default: only at the end
    best_metric: Literal["loss", "accuracy"] = "loss"  # of the dev split
    select: Literal["best", "last"] = "best"  # which weights the test evaluation uses

    @model_validator(mode="after")
    def _warmup_fits(self) -> TrainSpec:
        if self.warmup_steps > self.steps:
            raise ValueError(f"`warmup_steps` {self.warmup_steps} exceeds `steps` {self.steps}")
        return self


class EngineSpec(SpecModel):
    """The DeepSpeed engine and its layout; part of the identity, since sums round by layout."""

    ranks: Annotated[int, Field(ge=1, le=4096)] = 1
    zero_stage: Annotated[int, Field(ge=0, le=3)] = 2
    precision: Literal["fp32", "bf16"] = "fp32"
    threads_per_rank: Annotated[int, Field(ge=1, le=1024)] = 1


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
    def _batch_divides(self) -> Semantic:
        batch, ranks = self.train.global_batch, self.engine.ranks
        micro = self.train.micro_batch or batch // ranks
        if micro == 0 or batch % (micro * ranks):
            raise ValueError(
                f"`train.global_batch` {batch} is not a multiple of micro_batch × ranks"
                f" = {micro} × {ranks}"
            )
        return self


class CommandSpec(SpecModel):
    """Any program that obeys the contract of docs/command-jobs.md.

    `{name}` in a word of `argv` stands for a param, an input's path or one of
    `jobs.command.GIVEN`; no shell is involved. Paths start beside the matrix file.
    """

    argv: Annotated[tuple[str, ...], Field(min_length=1, max_length=1000)]
    params: dict[str, int | float | str | bool] = {}
    inputs: dict[str, str] = {}  # name -> file or directory that is read where it lies
    code: tuple[str, ...] = ()  # files and directories that are snapshotted at submission
    result: str | None = None  # JSON file of metrics in the working directory; None: see the page
    input_digests: dict[str, str] = {}  # of the inputs' files, filled in at submission


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


class ResourcesSpec(SpecModel):
    """What an allocation needs, in portable words; site.yaml says how to ask for it."""

    memory_gb: PositiveFloat = 2.0
    time_limit_minutes: PositiveInt = 60
    gpus_per_rank: NonNegativeInt = 0
    nodes: PositiveInt | None = None  # default: the scheduler decides
    # So many cells share one allocation, each with its own share of it (docs/packing.md).
    pack: Annotated[int, Field(ge=1, le=1000)] = 1


class SaveSpec(SpecModel):
    """When periodic checkpoints are taken and how many verified ones stay."""

    every_steps: PositiveInt = 100
    keep: Annotated[int, Field(ge=2, le=100)] = 2
    keep_every_steps: PositiveInt | None = None  # checkpoints of these steps stay for good
    read_back: bool = False  # read each checkpoint from disk before it counts
    background: bool = True  # train on while a periodic checkpoint is hashed and written
    # After two failed tries at one checkpoint: train on, or end the attempt (`retry.exceptions`).
    on_failure: Literal["continue", "stop"] = "continue"


class ResumeSpec(SpecModel):
    """What of a checkpoint may differ from what an attempt has; see `jobs.waivers`."""

    waive: tuple[Waiver, ...] = WAIVED_BY_DEFAULT


class RetrySpec(SpecModel):
    """Budgets per cause, in further attempts; each is whole again when the committed step grew.

    Preemptions and time limits are free while it grows. docs/policy.md has the table.
    """

    restarts_without_progress: PositiveInt = 3
    exceptions: NonNegativeInt = 0
    incomplete: NonNegativeInt = 1  # exit 0 without a valid result
    node_failures: NonNegativeInt = 10
    launch_failures: NonNegativeInt = 2  # it ended before an attempt began
    stalls: NonNegativeInt = 3
    stalled_minutes: PositiveFloat = 10.0  # without a heartbeat while RUNNING
    micro_batch_halvings: NonNegativeInt = 2  # after the device ran out of memory
    max_memory_gb: PositiveFloat | None = None  # cap of memory escalation
    max_lost_hours: PositiveFloat | None = None  # in restarts and repeated steps
    # So many deaths at one step from one checkpoint put that checkpoint away, once.
    poison_attempts: Annotated[int, Field(ge=2, le=100)] = 3
    delay_seconds: NonNegativeFloat = 1.0  # before the second try; doubles, with jitter
    max_delay_seconds: NonNegativeFloat = 300.0


class RehearsalSpec(SpecModel):
    """Preempt the job once by the site's signal sequence when it has passed `at_step`."""

    at_step: PositiveInt


class Run(SpecModel):
    """How the job is run; never part of its identity."""

    priority: Annotated[int, Field(ge=-1000, le=1000)] = 0  # higher ones go first
    resources: ResourcesSpec = ResourcesSpec()
    save: SaveSpec = SaveSpec()
    resume: ResumeSpec = ResumeSpec()
    retry: RetrySpec = RetrySpec()
    grace_seconds: PositiveFloat = 30.0
    # Other installed packages than in the attempts before: on record as inexact, or refused.
    packages: Literal["record", "strict"] = "record"
    rehearsal: RehearsalSpec | None = None
    base_dir: str | None = None  # absolute; relative paths of the semantic part start here


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
