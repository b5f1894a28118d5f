"""Chains of worlds that hand one state on: what the reshaping test and its proof run."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file

from tests.e2e.snapshot.runs import run_plan
from tests.e2e.snapshot.training import Cell, Plan
from worker.forkserver import ForkServer
from worker.snapshot.digest import mapping_digest


def consolidated(checkpoint: Path) -> dict[str, torch.Tensor]:
    """Return the whole masters and moments of a saved state, by parameter; every element once."""
    whole: dict[str, torch.Tensor] = {}
    for folder in sorted(checkpoint.glob("rank-*")):
        pieces = json.loads((folder / "state.json").read_bytes())["pieces"]
        path = folder / "optimizer.safetensors"
        for name, tensor in load_file(path).items() if path.exists() else ():
            kind, slot, *inner = name.split("/")
            if slot not in pieces:  # whole already (ZeRO 0)
                assert torch.equal(whole.setdefault(name, tensor), tensor)
                continue
            if tensor.dim() == 0:  # a step
                for parameter, *_ in pieces[slot]:
                    key = "/".join([kind, *inner, parameter])
                    assert torch.equal(whole.setdefault(key, tensor), tensor)
                continue
            for parameter, start, length, offset in pieces[slot]:
                key = "/".join([kind, *inner, parameter])
                part = tensor[offset : offset + length]
                known = whole.get(key, torch.zeros(0))
                if len(known) < start + length:
                    known = torch.cat(
                        [known, torch.full((start + length - len(known),), torch.nan)]
                    )
                    whole[key] = known
                assert known[start : start + length].isnan().all(), f"{key} is there twice"
                known[start : start + length] = part
    assert not any(tensor.isnan().any() for tensor in whole.values()), "elements are missing"
    return whole


def digests_of_chain(
    server: ForkServer, directory: Path, cell: Cell, worlds: list[int]
) -> list[tuple[str, str]]:
    """Train three steps in the first world, hand the state on through the others without a step.

    Return for each world the digest of masters and moments, and that of the module's weights.
    """
    found, saved, batch = [], None, cell.ranks * cell.accumulation
    for number, ranks in enumerate(worlds):
        here = Cell(
            method=cell.method,
            zero_stage=cell.zero_stage,
            ranks=ranks,
            precision=cell.precision,
            accumulation=batch // ranks,
            persistence=cell.persistence,
            subgroup=cell.subgroup,
        )
        target = directory / f"world{number}"
        plan = Plan(
            cell=here,
            directory=str(target),
            until=3,
            resume=saved,
            saved_ranks=worlds[number - 1] if saved else None,
            extra="save_again",
        )
        (weights,) = {report["weights"] for report in run_plan(server, plan)}
        saved = str(target / "checkpoint")
        found.append((mapping_digest(consolidated(Path(saved))), weights))
    return found
