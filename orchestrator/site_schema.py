"""What site.yaml may say: how to ask this cluster for what a matrix needs.

The only place where shell may stand (`setup`, `container_prefix`). Every other value is
allow-listed here, since it reaches an `#SBATCH` line, where a newline would run as shell.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    field_validator,
)

from jobs.contract.records import WorkerSite
from jobs.names import UNSAFE_IN_NAME, printable
from jobs.sources import hub_cache
from orchestrator.admission import MAX_IN_FLIGHT
from orchestrator.node_strikes import NodeRules

# sbatch options that `extra` may set. None of them changes the identity of a job, its output,
# its environment, its array or who may end it: those are orch's.
EXTRA_KEYS = frozenset(
    {
        "contiguous",
        "core-spec",
        "cores-per-socket",
        "cpu-freq",
        "cpus-per-gpu",
        "delay-boot",
        "exclusive",
        "gpu-bind",
        "gpu-freq",
        "hint",
        "licenses",
        "mcs-label",
        "mem-bind",
        "mem-per-gpu",
        "network",
        "nodelist",
        "oversubscribe",
        "power",
        "prefer",
        "priority",
        "sockets-per-node",
        "spread-job",
        "switches",
        "thread-spec",
        "threads-per-core",
        "time-min",
        "tmp",
        "wckey",
    }
)

_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@:+=-]{0,127}")
_FEATURES = re.compile(r"[A-Za-z0-9_.&|*,:()\[\]-]{1,255}")
_NODES = re.compile(r"[A-Za-z0-9_.,\[\]-]{1,1024}")
_MAIL = re.compile(r"[A-Za-z0-9_.+-]+@[A-Za-z0-9.-]+")
_EXTRA = re.compile(r"[A-Za-z0-9_.@:+=,*/\[\]()-]{1,255}")


def _matches(pattern: re.Pattern[str], what: str) -> AfterValidator:
    def check(text: str) -> str:
        if not pattern.fullmatch(text):
            raise ValueError(f"not {what}: only {pattern.pattern} is allowed here")
        return text

    return AfterValidator(check)


def _one_line(text: str) -> str:
    if not text.strip() or UNSAFE_IN_NAME.search(text):
        raise ValueError("must be one line without control characters")
    return text


def _absolute(text: str) -> str:
    if not text.startswith("/") or UNSAFE_IN_NAME.search(text):
        raise ValueError("must be an absolute path without control characters")
    return text


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _as_words(value: Any) -> Any:
    return shlex.split(value) if isinstance(value, str) else value


Word = Annotated[str, _matches(_WORD, "a name")]
Features = Annotated[str, _matches(_FEATURES, "a constraint")]
Nodes = Annotated[str, _matches(_NODES, "a node list")]
Mail = Annotated[str, _matches(_MAIL, "a mail address")]
Line = Annotated[str, AfterValidator(_one_line)]
AbsolutePath = Annotated[str, AfterValidator(_absolute)]
ExtraValue = Annotated[str, _matches(_EXTRA, "an option's value")]


class SiteModel(BaseModel):
    """Base: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Gpus(SiteModel):
    """How this cluster is asked for GPUs."""

    style: Literal["gres", "gpus-per-task", "gpus-per-node"] = "gres"
    type: Word | None = None  # e.g. a100


class MailTo(SiteModel):
    """Slurm's own mails."""

    user: Mail
    types: Annotated[tuple[Word, ...], BeforeValidator(_as_list)] = ("FAIL",)


class WatcherSite(SiteModel):
    """How `orch watch --as-job` asks for its job; what is not said is as for every job."""

    account: Word | None = None
    qos: Word | None = None
    partition: Word | None = None
    time_limit_minutes: Annotated[int, Field(ge=10)] | None = None  # default: the partition's
    memory_mb: Annotated[int, Field(ge=64)] = 1024


class NodeStrikes(SiteModel):
    """When jobs keep off a node on which others died."""

    jobs: PositiveInt = NodeRules.strikes  # so many different ones died on it …
    failures: PositiveInt = NodeRules.failures  # … or so often the site called it failed …
    window_minutes: PositiveFloat = NodeRules.window / 60  # … within this time
    keep_off_minutes: PositiveFloat = NodeRules.lasting / 60
    probation_minutes: Annotated[float, Field(ge=0)] = NodeRules.probation / 60
    share: Annotated[float, Field(ge=0, le=1)] = NodeRules.share

    def rules(self) -> NodeRules:
        """Return them as the rules that decide."""
        return NodeRules(
            strikes=self.jobs,
            failures=self.failures,
            window=self.window_minutes * 60,
            lasting=self.keep_off_minutes * 60,
            probation=self.probation_minutes * 60,
            share=self.share,
        )


class PreemptionFacts(SiteModel):
    """What the cluster does at preemption, for people and for `orch doctor`."""

    mode: Literal["REQUEUE", "CANCEL", "SUSPEND", "OFF"] | None = None
    grace_seconds: Annotated[float, Field(ge=0)] | None = None
    kill_wait_seconds: Annotated[float, Field(ge=0)] | None = None


class Site(SiteModel):
    """site.yaml. Every key is optional; an empty file is a plain Slurm."""

    version: Literal[1] = 1
    account: Word | None = None
    qos: Word | None = None
    partition: Annotated[tuple[Word, ...], BeforeValidator(_as_list)] = ()
    reservation: Word | None = None
    gpus: Gpus = Gpus()
    constraint: Features | None = None
    exclude: Nodes | None = None
    nice: Annotated[int, Field(ge=0, le=2_147_483_645)] | None = None
    mail: MailTo | None = None
    cpus_per_rank: PositiveInt | None = None  # default: the job's threads_per_rank
    extra: dict[str, ExtraValue | bool | int] = {}
    setup: tuple[Line, ...] = ()  # shell lines of the batch script, before the ranks start
    container_prefix: Annotated[tuple[Line, ...], BeforeValidator(_as_words)] = ()
    python: AbsolutePath | None = None  # default: the interpreter that submits
    interface: Word | None = None  # network interface for gloo and NCCL
    masked_words: tuple[Line, ...] = ()
    rank_timeout_seconds: PositiveFloat = 60.0
    max_in_flight: PositiveInt = MAX_IN_FLIGHT
    models_root: AbsolutePath | None = None
    data_root: AbsolutePath | None = None
    state_root: AbsolutePath | None = None
    scratch_root: AbsolutePath | None = None
    node_scratch_root: AbsolutePath | None = None
    node_strikes: NodeStrikes = NodeStrikes()
    preemption: PreemptionFacts = PreemptionFacts()
    watcher: WatcherSite = WatcherSite()

    @field_validator("extra")
    @classmethod
    def _allowed(cls, extra: dict[str, ExtraValue | bool | int]) -> dict[str, Any]:
        unknown = sorted(set(extra) - EXTRA_KEYS)
        if unknown:
            raise ValueError(
                f"{printable(unknown[0])} is not one of {', '.join(sorted(EXTRA_KEYS))}"
            )
        return extra

    def worker_site(self) -> WorkerSite:
        """Return the part that the workers need."""
        return WorkerSite(
            models_root=self.models_root,
            data_root=self.data_root,
            scratch_root=self.scratch_root,
            node_scratch_root=self.node_scratch_root,
            hub_cache=str(self.hub_cache()),
            interface=self.interface,
            masked_words=self.masked_words,
            rank_timeout_seconds=self.rank_timeout_seconds,
        )

    def hub_cache(self) -> Path:
        """Return where models of a hub are fetched to, once for all matrices and jobs.

        $HF_HUB_CACHE, else scratch_root (where jobs have all their caches), else the client's own.
        """
        if self.scratch_root and "HF_HUB_CACHE" not in os.environ:
            return Path(self.scratch_root) / "huggingface" / "hub"
        return hub_cache().absolute()

    def effects(self) -> Iterator[str]:
        """Yield one line for each thing that this site changes."""
        for key, text in _EFFECTS.items():
            value = getattr(self, key)
            if key in self.model_fields_set and value not in (None, (), {}):
                yield f"{key}: {_words(value)}: {text}"


_EFFECTS = {
    "account": "sbatch --account",
    "qos": "sbatch --qos",
    "partition": "sbatch --partition",
    "reservation": "sbatch --reservation",
    "gpus": "how GPUs are asked for",
    "constraint": "sbatch --constraint",
    "exclude": "sbatch --exclude",
    "nice": "sbatch --nice",
    "mail": "sbatch --mail-user, --mail-type",
    "cpus_per_rank": "sbatch --cpus-per-task",
    "extra": "further sbatch options",
    "setup": "shell lines before the ranks start",
    "container_prefix": "put before the interpreter",
    "python": "the interpreter inside the allocation",
    "interface": "network interface of the process group",
    "masked_words": "masked in what ranks print",
    "rank_timeout_seconds": "a dead or hung rank ends the attempt within this",
    "max_in_flight": "so many tasks at the scheduler at a time",
    "models_root": "where models are looked up first",
    "data_root": "where data sets are looked up first",
    "state_root": "the state directory, unless ORCH_HOME says otherwise",
    "scratch_root": "checkpoints, and caches of libraries inside the allocation",
    "node_scratch_root": "saves behind the training are put on this disk of the node first",
    "node_strikes": "when jobs keep off a node on which others died",
    "preemption": "what is known of this cluster's preemption",
    "watcher": "what the job of orch watch --as-job asks for",
}


def _words(value: Any) -> str:
    if isinstance(value, BaseModel):
        value = value.model_dump(exclude_none=True)
    if isinstance(value, dict):
        return ", ".join(f"{key}={entry}" for key, entry in value.items())
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
