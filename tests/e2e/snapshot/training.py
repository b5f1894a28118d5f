"""One rank of a tiny training, run in a process of its own: what the snapshot tests drive.

Not the worker's loop: the shortest loop that uses the engine and the snapshot as it would, with
dropout on, and python's, numpy's and torch's global generators all taking part in the data.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

VOCABULARY, LENGTH = 97, 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One way to train: what the digests of two runs must agree for."""

    method: str = "lora"  # or full; or drifting: lora whose loss follows a buffer
    zero_stage: int = 0
    ranks: int = 1
    precision: str = "fp32"
    accumulation: int = 1
    persistence: int = 100_000  # ZeRO-3: parameters below this stay whole
    subgroup: int | None = None  # ZeRO-3: elements after which a new subgroup begins; 10^9 if None

    @property
    def label(self) -> str:
        """Return a short name for test ids."""
        whole = "" if self.persistence else "-partitioned"
        whole += "" if self.subgroup is None else "-subgroups"
        return (
            f"{self.method}-z{self.zero_stage}-r{self.ranks}-{self.precision}"
            f"-a{self.accumulation}{whole}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What one process of a run does."""

    cell: Cell
    directory: str  # of this run: rendezvous, reports
    until: int  # steps
    total: int = 6
    resume: str | None = None  # directory with rank-NNNNN/ files
    saved_ranks: int | None = None  # of that directory; None: as many as the cell
    save_at: int | None = None  # capture after this many steps, into directory/checkpoint
    drop: str | None = None  # negative controls: what is not restored
    extra: str | None = None  # a further check after the last step

    def to_json(self) -> str:
        """Return the plan as text."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> Plan:
        """Return the plan of a text."""
        raw = json.loads(text)
        return Plan(**(raw | {"cell": Cell(**raw["cell"])}))


@contextmanager
def subgroups_of(elements: int | None) -> Iterator[None]:
    """Have DeepSpeed cut ZeRO 3 into small subgroups; orch leaves that to it."""
    import worker.engine

    plain = worker.engine.engine_config

    def cut(*given: Any, **named: Any) -> dict[str, Any]:
        config = plain(*given, **named)
        config["zero_optimization"]["sub_group_size"] = elements
        return config

    if elements is not None:
        worker.engine.engine_config = cut
    try:
        yield
    finally:
        worker.engine.engine_config = plain


def semantic_of(cell: Cell, total: int) -> Any:
    """Return the spec of a cell."""
    from jobs.spec import Semantic

    micro = 2
    return Semantic.model_validate(
        {
            "model": {"family": "decoder", "config": {"n_layer": 1}},
            "method": {"name": "lora", "rank": 4, "dropout": 0.1}
            if cell.method != "full"
            else {"name": "full"},
            "task": {"name": "tsv", "path": "package:quickstart"},
            "train": {
                "steps": total,
                "global_batch": micro * cell.accumulation * cell.ranks,
                "micro_batch": micro,
                "lr": 1e-2,
                "schedule": "cosine",
                "warmup_steps": 2,
                "weight_decay": 0.1,
                "max_grad_norm": 0.5,
            },
            "engine": {
                "ranks": cell.ranks,
                "zero_stage": cell.zero_stage,
                "precision": cell.precision,
            },
            "seed": 3,
        }
    )


def tiny_model(cell: Cell, *, seed: int = 0) -> Any:
    """Return a one-layer GPT-2 with dropout, under LoRA or wholly trained."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=VOCABULARY,
        n_positions=LENGTH,
        n_embd=16,
        n_layer=1,
        n_head=2,
        resid_pdrop=0.1,
        bos_token_id=0,
        eos_token_id=0,
    )
    model = GPT2LMHeadModel(config)
    if cell.method == "full":
        return model
    lora = LoraConfig(
        r=4,
        lora_alpha=8,
        lora_dropout=0.1,
        target_modules=["c_attn", "c_proj"],
        fan_in_fan_out=True,
    )
    adapted = get_peft_model(model, lora)
    return adapted if cell.method == "lora" else drifting(adapted)


def drifting(model: Any) -> Any:
    """Return the model with a buffer that grows in training, by rank, and scales the loss."""
    import torch
    import torch.distributed as dist

    model.register_buffer("drift", torch.zeros(1), persistent=False)

    def grow(module: Any, _args: Any, _kwargs: Any, output: Any) -> Any:
        if module.training:
            module.drift += 0.1 * (1 + dist.get_rank())
        output.loss = output.loss * (1 + module.drift[0])
        return output

    model.register_forward_hook(grow, with_kwargs=True)
    return model


def batch_of(step: int, micro_step: int, rank: int) -> dict[str, Any]:
    """Return a batch: a function of its place, and of all three global generators."""
    import numpy as np
    import torch

    place = torch.Generator().manual_seed(1000 * step + 10 * micro_step + rank)
    tokens = torch.randint(0, VOCABULARY, (2, LENGTH), generator=place)
    tokens[0, random.randrange(LENGTH)] = 1
    tokens[1, int(np.random.randint(LENGTH))] = 2
    if np.random.standard_normal() > 0:  # leaves a cached gaussian behind
        tokens[0, 0] = 3
    tokens[1, 1] = 4 if random.gauss(0, 1) > 0 else 5
    return {"input_ids": tokens, "labels": tokens.clone()}


def run(argv: list[str]) -> int:
    """Run rank argv[1] of the plan in file argv[0]; write `report.RANK.json` beside it."""
    import numpy as np
    import torch
    import torch.distributed as dist

    plan, rank = Plan.from_json(Path(argv[0]).read_text()), int(argv[1])
    directory, cell = Path(plan.directory), plan.cell
    torch.set_num_threads(1)
    store = dist.FileStore(str(directory / "rendezvous"), cell.ranks)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=cell.ranks)

    from worker import snapshot
    from worker.engine import build_engine
    from worker.schedule import lr_at

    semantic = semantic_of(cell, plan.total)
    model = tiny_model(cell)
    base = snapshot.base_digest(model)
    with subgroups_of(cell.subgroup):
        engine = build_engine(model, semantic, device="cpu", persistence_threshold=cell.persistence)
    random.seed(11 + rank)
    np.random.seed(12 + rank)
    torch.manual_seed(13 + rank)
    if plan.resume is not None:
        _resume(engine, plan, rank)
    losses: list[str] = []
    for step in range(engine.steps_done, plan.until):
        engine.set_lr(lr_at(semantic.train, step))
        losses += [
            engine.micro_step(batch_of(step, micro_step, rank)).item().hex()
            for micro_step in range(engine.accumulation)
        ]
        if plan.save_at == step + 1:
            _save(engine, directory / "checkpoint", rank)
    report = {
        "losses": losses,
        "weights": snapshot.weights_digest(engine),
        "base": base,
        "optimizer": type(engine.deepspeed.optimizer).__name__,
        "trained": len(engine.trained_parameters()),
    }
    if plan.extra is not None:
        from tests.e2e.snapshot import extras

        report["extra"] = getattr(extras, plan.extra)(engine, semantic, directory, rank)
    (directory / f"report.{rank}.json").write_text(json.dumps(report))
    dist.barrier()
    return 0


def _save(engine: Any, directory: Path, rank: int) -> None:
    from worker import snapshot

    target = directory / f"rank-{rank:05d}"
    target.mkdir(parents=True)
    for name, data in snapshot.encode(snapshot.capture(engine)).items():
        (target / name).write_bytes(data)


def read_needed(directory: Path, cell: Cell, rank: int) -> dict[str, bytes]:
    """Return the bytes of the files that a rank needs, and of no others."""
    from worker import snapshot

    needed = snapshot.files_needed(rank, cell.ranks, cell.zero_stage)
    return {path: (directory / path).read_bytes() for path in needed}


def _resume(engine: Any, plan: Plan, rank: int) -> None:
    from worker import snapshot

    assert plan.resume is not None
    cell = plan.cell
    if plan.saved_ranks not in (None, cell.ranks):
        saved = snapshot.reshaped(
            engine,
            lambda path: (Path(plan.resume or "") / path).read_bytes(),
            saved_ranks=plan.saved_ranks,
        )
        snapshot.plan_restore(engine, saved, waived={"rng"}).apply()
        return
    saved = snapshot.decode(
        read_needed(Path(plan.resume), cell, rank),
        rank=rank,
        world_size=cell.ranks,
        zero_stage=cell.zero_stage,
    )
    if plan.drop is not None:
        saved = _without(engine, saved, plan.drop)
    snapshot.restore(engine, saved)


def _without(engine: Any, saved: Any, part: str) -> Any:
    """Return the state with one part replaced by what a fresh engine has: negative controls."""
    from worker import snapshot
    from worker.snapshot.digest import mapping_digest

    fresh = snapshot.capture(engine)
    optimizer, state = dict(saved.optimizer), dict(saved.state)
    rng, plain = dict(saved.rng), dict(saved.state["rng"])
    match part:
        case "inner":
            optimizer = {n: t for n, t in optimizer.items() if not n.startswith("inner/")}
        case "step":
            optimizer = {n: t * 0 if n.endswith("/step") else t for n, t in optimizer.items()}
        case "masters":  # rounded to the module's precision
            optimizer = {
                n: t.bfloat16().float() if n.startswith("master/") else t
                for n, t in optimizer.items()
            }
        case "python" | "numpy" | "torch":
            rng[part] = fresh.rng[part]
            if part in plain:
                plain[part] = fresh.state["rng"][part]
        case "buffers":
            saved = replace(saved, buffers={})
        case "counters":
            state["counters"] = dict.fromkeys(state["counters"], 0)
        case _:
            raise ValueError(part)
    state |= {"rng": plain}
    saved = replace(saved, optimizer=optimizer, rng=rng, state=state)
    state["digests"] = {
        name: mapping_digest(getattr(saved, name)) for name in saved.state["digests"]
    }
    return saved


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
