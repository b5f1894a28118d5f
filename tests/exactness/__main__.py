"""Run the exactness matrix and print a table: `python -m tests.exactness`."""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.exactness.cells import WORLDS, Cell, covering_cells, every_cell
from tests.exactness.chain import INTERRUPTIONS, Chain, Verdict
from tests.exactness.generation import RUN
from worker.forkserver import ForkServer

ROOT = Path(__file__).parent.parent.parent
PORTION = 16  # cells that one generation of processes carries


def start_server() -> ForkServer:
    """Start a warm server that may run generations."""
    env = {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    return ForkServer.start(env=env, also=(RUN,))


def portions(cells: Sequence[Cell], seed: int) -> list[list[Cell]]:
    """Return the cells by number of ranks, in a seeded order, the widest first."""
    found = []
    for ranks in reversed(WORLDS):
        mine = [cell for cell in cells if cell.ranks == ranks]
        random.Random(seed).shuffle(mine)
        found += [mine[at : at + PORTION] for at in range(0, len(mine), PORTION)]
    return found


def show(chain: Chain, verdicts: Sequence[Verdict], seconds: float) -> bool:
    """Print what came of a world size; return whether all is as it must be."""
    for one in verdicts:
        if not (one.equal and one.exact):
            print(f"DIFFERS {one.cell.label}: {', '.join(one.differs) or 'not exact'}")
    equal = sum(one.equal for one in verdicts)
    exact = sum(one.exact for one in verdicts)
    interruptions = sum(one.interruptions for one in verdicts)
    five = sum(one.interruptions == INTERRUPTIONS for one in verdicts)
    resumes = sum(one.resumes for one in verdicts)
    noticed = chain.noticed_controls()
    print(
        f"| {chain.ranks} | {len(verdicts)} | {equal} | {exact} | {interruptions} | {five}"
        f" | {resumes} | {noticed} of {chain.controls} | {seconds:.0f} |",
        flush=True,
    )
    return equal == exact == len(verdicts) and noticed == chain.controls


def main(argv: Sequence[str]) -> int:
    """Run the matrix; 1 when any bit differs."""
    parser = argparse.ArgumentParser(prog="scripts/proof exactness", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--covering", action="store_true", help="twelve cells only")
    arguments = parser.parse_args(argv)
    cells = covering_cells() if arguments.covering else list(every_cell())
    root = Path(tempfile.mkdtemp(prefix="orch-exactness-"))
    print(
        "| ranks | cells | equal | exact | interruptions | cells with all five | resumes"
        " | controls noticed | s |\n|" + "---|" * 9,
        flush=True,
    )
    with start_server() as server, ThreadPoolExecutor(len(WORLDS)) as pool:

        def one(numbered: tuple[int, list[Cell]]) -> bool:
            number, mine = numbered
            started = time.monotonic()
            directory = root / f"portion-{number}"
            directory.mkdir()
            chain = Chain(directory, server, mine, arguments.seed + number)
            return show(chain, chain.verdicts(), time.monotonic() - started)

        good = list(pool.map(one, enumerate(portions(cells, arguments.seed))))
    if all(good):
        shutil.rmtree(root)
        return 0
    print(f"kept: {root}")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
