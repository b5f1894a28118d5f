"""The result of a command: who declares it, and how it is published.

A valid result.json alone makes a job COMPLETED. A command declares its result by the API, by the
file that `command.result` names, or, where it uses neither, by leaving with 0.
"""

from __future__ import annotations

import hashlib
import json
import math
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from durable.faults import hit
from jobs.contract.records import ResultRecord
from jobs.spec import canonical_json, semantic_digest
from worker import publication
from worker.attempt import Attempt
from worker.command.surroundings import command_of
from worker.folding import fold_older
from worker.metrics import encode_row, job_curve

MAX_BYTES = 1 << 20
DEFAULT_SPLIT = "test"


class BadMetrics(ValueError):
    """Metrics are not numbers by name; the message says which."""


def read_metrics(path: Path) -> dict[str, dict[str, float]]:
    """Return the metrics of a declared file. Raises `BadMetrics`; FileNotFoundError."""
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise BadMetrics(f"{path.name} is larger than {MAX_BYTES >> 20} MiB: write numbers only")
    try:
        value = json.loads(data)
    except ValueError as error:
        raise BadMetrics(f"{path.name} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise BadMetrics(f"{path.name} is not an object of numbers by name")
    return split_metrics(value)


def split_metrics(value: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Return {split: {name: number}}; bare numbers are of split `test`. Raises `BadMetrics`."""
    metrics: dict[str, dict[str, float]] = {}
    for name, item in value.items():
        below = item if isinstance(item, dict) else {name: item}
        split = name if isinstance(item, dict) else DEFAULT_SPLIT
        for key, number in below.items():
            real = isinstance(number, int | float) and not isinstance(number, bool)
            if not real or not math.isfinite(number):
                raise BadMetrics(
                    f"{key} is {json.dumps(number)[:60]}: a result has finite numbers only"
                )
            metrics.setdefault(split, {})[str(key)] = float(number)
    return metrics


def publish_result(
    attempt: Attempt,
    metrics: Mapping[str, Mapping[str, float]],
    *,
    steps: int,
    reasons: tuple[str, ...] = (),
    resumed_step: int | None = None,
    checkpoint_digest: str | None = None,
) -> None:
    """Publish result.json, the first one for good. Raises `Fenced`, OSError."""
    semantic, job = command_of(attempt), attempt.job
    digests = semantic.command.input_digests
    record = ResultRecord(
        job=attempt.spec.id,
        spec_digest=semantic_digest(semantic),
        epoch=attempt.epoch,
        exact=not reasons,
        inexact_reasons=reasons,
        metrics={split: dict(numbers) for split, numbers in metrics.items()},
        checkpoint_digest=checkpoint_digest,
        data_digest="sha256:" + hashlib.sha256(canonical_json(digests)).hexdigest()
        if digests
        else None,
        steps=steps,
        resumed_steps=() if resumed_step is None else (resumed_step,),
        environment={
            "packages": attempt.claim.packages,
            "code_digest": semantic.code_digest,
            "orch_python": platform.python_version(),
            "ranks": attempt.layout.world_size,
        },
    )
    curve = job_curve(job, up_to_epoch=attempt.epoch, steps=steps) if steps else []
    beside = {job.metrics: b"".join(encode_row(row) for row in curve)} if curve else {}
    hit("command.before_publication")
    publication.publish_result(attempt, record, beside=beside)
    hit("command.after_result")
    fold_older(job, attempt.epoch, ranks=attempt.layout.world_size, finished=True)
