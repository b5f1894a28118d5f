"""How much memory of its host a training needs at least: what is allocated for certain. Pure.

Activations and what libraries allocate on the way are left out: less than this cannot be enough.
"""

from __future__ import annotations

from dataclasses import dataclass

from jobs.spec import Run, Semantic

PROCESS_BYTES = 400 << 20  # of a rank, with torch, transformers and DeepSpeed imported


@dataclass(frozen=True, slots=True, kw_only=True)
class HostMemory:
    """Bytes of all ranks of a job together."""

    total: int
    saves: int  # of it: copies of the state, from which saves are written


def host_memory(semantic: Semantic, run: Run, *, parameters: int, trained: int) -> HostMemory:
    """Return the least that a job needs whose model has so many elements."""
    engine = semantic.engine
    width = 4 if engine.precision == "fp32" else 2
    masters = 0 if engine.zero_stage == 0 and engine.precision == "fp32" else 4
    # Masters and AdamW's two moments, whole at every rank where they are not partitioned.
    state = trained * (masters + 8) * (engine.ranks if engine.zero_stage == 0 else 1)
    saves = state + trained * width * (0 if engine.zero_stage == 3 else engine.ranks)
    best = trained * 4 if semantic.train.select == "best" else 0
    total = engine.ranks * PROCESS_BYTES + saves + best
    if not run.resources.gpus_per_rank:
        whole = 1 if engine.zero_stage == 3 else engine.ranks
        total += parameters * width * whole
        total += trained * width * (1 if engine.zero_stage >= 2 else engine.ranks)
        total += state
    return HostMemory(total=total, saves=saves)
