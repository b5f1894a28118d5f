"""`scripts/proof elastic`: all layouts through all worlds, and jobs that change their ranks.

Prints a table and leaves with 1 where a figure is outside its bound.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.e2e.elastic import Pair, follow, walk
from tests.e2e.snapshot.reshaping import digests_of_chain
from tests.e2e.snapshot.runs import RUN
from tests.e2e.snapshot.training import Cell
from worker.forkserver import ForkServer

ROOT = Path(__file__).parents[2]
CHAIN = [1, 2, 4, 3, 1, 4, 2, 1]  # among them 1 to 2, 2 to 4, 4 to 2 and 2 to 1
WALK = [1, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1]
WORLDS = ((1, 2), (4, 2), (2, 1))
# ZeRO 3: parameters below so many elements stay whole; a new subgroup after so many, 10^9 if None.
CUTS = ((100_000, None), (0, None), (0, 900))
FIRST = 1e-6
LATER = {"fp32": 1e-5, "bf16": 2e-2}  # weights of bf16 have 8 bits


def layouts() -> Iterator[Cell]:
    """Yield every class of optimizer with LoRA and full tuning, and ZeRO 3 in other cuts."""
    for method, stage, precision in itertools.product(("lora", "full"), range(4), ("fp32", "bf16")):
        for persistence, subgroup in CUTS if stage == 3 else CUTS[:1]:
            yield Cell(
                method=method,
                zero_stage=stage,
                precision=precision,
                accumulation=12,  # a batch that 1, 2, 3 and 4 ranks divide
                persistence=persistence,
                subgroup=subgroup,
            )


def digests(server: ForkServer, root: Path) -> int:
    """Hand each layout's state through the worlds; return how many changed a bit."""
    print(f"masters, moments and weights by digest through worlds of {CHAIN} ranks")
    wrong = 0
    for number, cell in enumerate(layouts()):
        chain = digests_of_chain(server, root / f"chain{number}", cell, CHAIN)
        same = len(set(chain)) == 1
        wrong += not same
        print(
            f"  {cell.label:32} {'equal' if same else 'DIFFERENT'}  {chain[0][0][:19]}", flush=True
        )
    return wrong


def losses(server: ForkServer, root: Path) -> int:
    """Let jobs go on with other ranks; return how many went outside of the bounds."""
    print("relative difference of the loss to a job of a fixed number of ranks; dropout on")
    print(f"  {'':28} until then   first after  largest later")
    wrong = 0
    for number, (method, stage, precision, (before, after)) in enumerate(
        itertools.product(("lora", "full"), range(4), ("fp32", "bf16"), WORLDS)
    ):
        pair = Pair(
            before=before, after=after, zero_stage=stage, precision=precision, method=method
        )
        seen = follow(root / f"pair{number}", server, pair)
        good = seen.same_until_then and seen.first <= FIRST and seen.later <= LATER[precision]
        good = good and not seen.result.exact
        wrong += not good
        before_it = "equal" if seen.same_until_then else "DIFFERENT"
        print(
            f"  {pair.label:28} {before_it:12} {seen.first:11.1e} {seen.later:14.1e}"
            f"  {'' if good else 'OUTSIDE'}",
            flush=True,
        )
    return wrong


def control(server: ForkServer, root: Path) -> int:
    """Have the micro-batch shrink, so that dropout differs: the bound must notice that."""
    pair = Pair(before=1, after=2, zero_stage=2, micro_batch=4)
    seen = follow(root / "control", server, pair)
    print(f"control: other dropout, where 4 examples at once become 2: first {seen.first:.1e}")
    return not seen.first > FIRST


def walks(server: ForkServer, root: Path) -> int:
    """Preempt a job of each stage ten times, each time with other ranks."""
    print(f"the same through worlds of {WALK} ranks, a preemption in each but the last")
    wrong = 0
    for stage in range(4):
        largest = walk(root / f"walk{stage}", server, zero_stage=stage, worlds=WALK)
        good = largest <= LATER["fp32"]
        wrong += not good
        print(
            f"  z{stage}-fp32-lora  largest {largest:.1e}  {'' if good else 'OUTSIDE'}", flush=True
        )
    return wrong


def main() -> int:
    """Run all parts; return the exit code."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="orch-elastic-") as folder:
        root = Path(folder)
        environment = {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
        with ForkServer.start(env=environment, also=(RUN,)) as server:
            wrong = sum(part(server, root) for part in (control, walks, digests, losses))
    seconds = time.monotonic() - began
    print(f"{wrong} outside of the bounds ({FIRST} first, {LATER} later); {seconds:.0f} s")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
