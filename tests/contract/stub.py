"""Small jobs, and how the stub worker runs them."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.matrix.needs import Need
from jobs.spec import JobSpec, Semantic, job_id, semantic_digest

WORKER = Path(__file__).with_name("stub_worker.py")
LAUNCH_ARGV = (sys.executable, "-P", "-S", str(WORKER))


@dataclass(frozen=True, slots=True, kw_only=True)
class StubMatrix:
    """What `jobs.matrix.Matrix` is to the service."""

    name: str
    path: Path
    digest: str
    text: str
    cells: int
    jobs: tuple[JobSpec, ...]
    max_in_flight: int | None = None
    needs: tuple[Need, ...] = ()


def make_spec(seed: int = 1, *, name: str | None = None, steps: int = 3, **run: Any) -> JobSpec:
    """Return a tiny valid spec; `run` are fields of its run part, as plain values."""
    semantic = Semantic.model_validate(
        {
            "model": {"family": "decoder", "config": {"n_layer": 1}},
            "method": {"name": "lora"},
            "task": {"name": "tsv", "path": "package:quickstart"},
            "train": {"steps": steps, "global_batch": 4},
            "seed": seed,
        }
    )
    return JobSpec.model_validate(
        {
            "id": job_id(semantic),
            "name": name or f"job-{seed}",
            "semantic": semantic.model_dump(),
            "run": run,
        }
    )


def make_matrix(specs: Sequence[JobSpec], *, name: str = "stub", **order: Any) -> StubMatrix:
    """Return a matrix of these jobs; `order`: its max_in_flight and its needs."""
    text = f"name: {name}\n"
    return StubMatrix(
        name=name,
        path=Path(f"/nowhere/{name}.yaml"),
        digest=hashlib.sha256(text.encode()).hexdigest(),
        text=text,
        cells=len(specs),
        jobs=tuple(specs),
        **order,
    )


def write_plan(home: Path, specs: Sequence[JobSpec], **plan: Any) -> None:
    """Say how the stub worker behaves: seconds_per_step, seconds_to_start, ignore_term,
    fail_at, failure (an outcome), failures, exit_code, without_result (so many attempts).
    """
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    digests = {spec.id: semantic_digest(spec.semantic) for spec in specs}
    (home / "stub.json").write_text(json.dumps({**plan, "digests": digests}))


def lines(path: Path) -> list[str]:
    """Return the lines of a stub's testimony."""
    return path.read_text().splitlines() if path.exists() else []
