"""Which rank this process is, of how many, and for which try of which task it runs.

Pure: read from a mapping of environment variables. `worker.launch` sets ORCH_*, srun sets
SLURM_*; ORCH_* wins, since a local launch may happen inside an allocation.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from jobs.contract import environment as names


class BadLayout(ValueError):
    """The environment does not say which rank this is; the message names the variable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A rank's place, and the identity of the try that all its ranks share."""

    rank: int
    world_size: int
    local_rank: int  # on this host
    hosts: tuple[str, ...]  # in rank order; empty: all ranks on this host
    index: int  # into tasks.json
    scheduler_id: str | None  # None: the submission's token stands for it (local)
    array_task: int | None = None
    restart_count: int = 0
    launch_id: str | None = None
    port_seed: int | None = None  # a number that concurrent jobs of a host do not share

    @property
    def one_node(self) -> bool:
        """Whether every rank is on this host."""
        return len(self.hosts) <= 1


def read_layout(env: Mapping[str, str], *, index: int | None = None) -> Layout:
    """Return the layout that `env` describes; `index` (a command-line option) wins over it.

    Raises `BadLayout` for a number that is none, or a rank outside the world.
    """
    if names.RANK in env or "SLURM_PROCID" not in env:
        layout = _local(env, index)
    else:
        layout = _slurm(env, index)
    if not 0 <= layout.rank < layout.world_size:
        raise BadLayout(
            f"rank {layout.rank} is outside a world of {layout.world_size}:"
            f" check {names.RANK} and {names.WORLD_SIZE}"
        )
    return layout


def _local(env: Mapping[str, str], index: int | None) -> Layout:
    rank = _number(env, names.RANK, 0)
    return Layout(
        rank=rank,
        world_size=_number(env, names.WORLD_SIZE, 1),
        local_rank=rank,
        hosts=(),
        index=_number(env, names.TASK_INDEX, 0) if index is None else index,
        scheduler_id=None,
        launch_id=env.get(names.LAUNCH_ID),
    )


def _slurm(env: Mapping[str, str], index: int | None) -> Layout:
    job = env.get("SLURM_JOB_ID", "")
    if not job.isdigit():
        raise BadLayout(f"SLURM_JOB_ID is {job!r}, not a number: start the ranks with srun")
    array_task = _optional(env, "SLURM_ARRAY_TASK_ID")
    nodes = env.get("SLURM_STEP_NODELIST") or env.get("SLURM_JOB_NODELIST", "")
    step = env.get("SLURM_STEP_ID")
    fallback = _number(env, names.TASK_INDEX, array_task or 0)
    return Layout(
        rank=_number(env, "SLURM_PROCID", 0),
        world_size=_number(env, "SLURM_STEP_NUM_TASKS", _number(env, "SLURM_NTASKS", 1)),
        local_rank=_number(env, "SLURM_LOCALID", 0),
        hosts=tuple(expand_hosts(nodes)),
        index=fallback if index is None else index,
        scheduler_id=env.get("SLURM_ARRAY_JOB_ID", job),
        array_task=array_task,
        restart_count=_number(env, "SLURM_RESTART_COUNT", 0),
        # A script may start srun again within one restart: its steps are different launches.
        launch_id=env.get(names.LAUNCH_ID) or (f"step-{step}" if step else None),
        port_seed=int(job),
    )


def _number(env: Mapping[str, str], name: str, default: int) -> int:
    value = _optional(env, name)
    return default if value is None else value


def _optional(env: Mapping[str, str], name: str) -> int | None:
    text = env.get(name, "")
    if not text:
        return None
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise BadLayout(f"{name} is {text!r}, not a number")
    return int(text)


def expand_hosts(expression: str) -> Iterator[str]:
    """Yield the hosts of a Slurm node list such as `n[1-3,07],login1`, zero padding kept.

    Our own parser, since a container may have no scontrol. Raises `BadLayout` if unbalanced.
    """
    for part in _split(expression):
        match = re.fullmatch(r"([^\[\]]*)\[([^\[\]]+)\](.*)", part)
        if match is None:
            if "[" in part or "]" in part:
                raise BadLayout(f"node list {expression!r} has an unbalanced bracket")
            if part:
                yield part
            continue
        prefix, ranges, suffix = match.groups()
        for number in _numbers(ranges, expression):
            yield from expand_hosts(f"{prefix}{number}{suffix}")


def _split(expression: str) -> Iterator[str]:
    depth = start = 0
    for position, char in enumerate(expression):
        depth += (char == "[") - (char == "]")
        if char == "," and depth == 0:
            yield expression[start:position]
            start = position + 1
    yield expression[start:]


def _numbers(ranges: str, expression: str) -> Iterator[str]:
    for piece in ranges.split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", piece)
        if match is None:
            raise BadLayout(f"node list {expression!r}: {piece!r} is not a range")
        first, last = match[1], match[2] or match[1]
        for number in range(int(first), int(last) + 1):
            yield f"{number:0{len(first)}d}"
