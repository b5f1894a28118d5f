"""How a job is run; never part of its identity."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from jobs.specs.base import SpecModel
from jobs.waivers import WAIVED_BY_DEFAULT, Waiver


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
