"""A job that goes on with another number of ranks, beside one that does not."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from jobs.contract.records import Overrides, ResultRecord
from tests.e2e.comparison import bench
from tests.e2e.harness import Bench
from worker.forkserver import ForkServer

STOP_AT = 5


@dataclass(frozen=True, kw_only=True)
class Pair:
    """From how many ranks to how many, of which engine."""

    before: int
    after: int
    zero_stage: int
    precision: str = "fp32"
    method: str = "lora"
    micro_batch: int = 1

    @property
    def label(self) -> str:
        """Return a short name for test ids."""
        return f"{self.before}to{self.after}-z{self.zero_stage}-{self.precision}-{self.method}"

    @property
    def changes(self) -> dict[str, object]:
        """Return the changes of the tiny job."""
        found: dict[str, object] = {
            "engine__ranks": self.before,
            "engine__zero_stage": self.zero_stage,
            "engine__precision": self.precision,
            "train__micro_batch": self.micro_batch,
        }
        return found | ({"method": {"name": "full"}} if self.method == "full" else {})


CELLS = [
    Pair(before=2, after=1, zero_stage=2),
    Pair(before=1, after=2, zero_stage=3),
]


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What became of the job, against the one of a fixed number of ranks."""

    same_until_then: bool
    first: float  # relative difference of the first loss after the change
    later: float  # the largest of those after it
    resumed: int  # step
    result: ResultRecord


def losses(job: Bench) -> dict[int, float]:
    """Return the training losses by step, each step once."""
    rows = [json.loads(line) for line in job.job.metrics.read_text().splitlines()]
    found = [(row["step"], row["loss"]) for row in rows if "loss" in row]
    assert len(dict(found)) == len(found)
    return dict(found)


def differences(fixed: Bench, job: Bench) -> dict[int, float]:
    """Return by how much a job's losses differ from another's, by step; both have all steps."""
    one, other = losses(fixed), losses(job)
    assert list(one) == list(other) == list(range(1, len(one) + 1))
    return {step: abs(one[step] - other[step]) / abs(one[step]) for step in one}


def follow(root: Path, server: ForkServer, pair: Pair) -> Seen:
    """Run the fixed job, then the one that is preempted and goes on with other ranks."""
    fixed = bench(root, "fixed", server, **pair.changes)
    fixed.until_done(limit=1)
    job = bench(root, "job", server, **pair.changes)
    stopped = job.attempt(stop_at=STOP_AT)
    assert stopped.exit_code == 75, stopped.log()
    job.submit(overrides=Overrides(ranks=pair.after))
    ended = job.attempt()
    assert ended.exit_code == 0, ended.log()
    result = job.result
    (resumed,) = result.resumed_steps
    off = differences(fixed, job)
    return Seen(
        same_until_then=all(off[step] == 0.0 for step in off if step <= resumed),
        first=off[resumed + 1],
        later=max(off[step] for step in off if step > resumed + 1),
        resumed=resumed,
        result=result,
    )


def walk(root: Path, server: ForkServer, *, zero_stage: int, worlds: list[int]) -> float:
    """Run a job that is preempted in every world but the last; return the largest difference.

    Every loss is compared with the job's that stays in the first world and is never preempted.
    """
    changes = Pair(before=worlds[0], after=worlds[-1], zero_stage=zero_stage).changes
    steps = 4 * len(worlds)  # two, and two more until the ranks have agreed to stop
    fixed = bench(root, "fixed", server, train__steps=steps, **changes)
    fixed.until_done(limit=1)
    job = bench(root, "job", server, train__steps=steps, **changes)
    for ranks in worlds[:-1]:
        job.submit(overrides=Overrides(ranks=ranks))
        stopped = job.attempt(stop_at=2)
        assert stopped.exit_code == 75, stopped.log()
    job.submit(overrides=Overrides(ranks=worlds[-1]))
    ended = job.attempt()
    assert ended.exit_code == 0, ended.log()
    result = job.result
    resumed = result.resumed_steps
    changed = zip(worlds, worlds[1:], resumed, strict=False)
    said = [f"world_size {then} -> {now} at step {step}" for then, now, step in changed]
    assert len(said) == len(worlds) - 1 == len(resumed)
    assert all(any(r.startswith(one) for r in result.inexact_reasons) for one in said), said
    assert not result.exact
    assert result.steps == steps
    return max(differences(fixed, job).values())
