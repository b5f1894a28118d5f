"""Every fault point × what can happen there × each rank, as a program: counts and violations.

    python -m tests.crash.crash_sweep [--sample N --seed S] [--only TEXT] [--plant BUG]

One case: a store with a history is copied; an attempt of two ranks (`two_ranks`) works on it, and
one rank meets its fault at the n-th passage of one point. Then the store must give the previous or
the new checkpoint, whole (`invariants`), and a further attempt must go on as if nothing had been.
Which passages there are is measured by an attempt without a fault, so no list can become stale.

`--plant BUG` puts a known bug into the store first: the sweep must find it, and ends with 1.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from checkpoints.fault_points import FAULT_POINTS
from checkpoints.simple import Checkpoints
from tests.crash import planted
from tests.crash.invariants import newest, problems, quarantined
from tests.crash.two_ranks import (
    FENCED,
    PEER_LOST,
    RANKS,
    RUN,
    Process,
    open_store,
    quiet_alarm,
    run,
    saved,
    start,
)
from tests.unit.checkpoints.fake_attempt import save, stage_rank

# "stop": stopped there for good, until it is killed; a new attempt has done its work meanwhile.
# "pause": as stop, but both ranks go on after the new attempt: they must be fenced.
ACTIONS = ("kill", "stop", "pause", "errno=ENOSPC", "errno=EIO")
OLDEST, OLDER, PREVIOUS = (f"step-000000{step}.e0001" for step in (10, 20, 30))
UNREADABLE = ("verify.before_file", "verify.before_use")
TRIES = 5
STEP, SUCCESSOR_STEP, NEXT_STEP = 40, 50, 60
MEMORY = Path("/dev/shm")  # a crash of a process is the same there, and fsync costs nothing


@dataclass(frozen=True, kw_only=True)
class Case:
    """At the `nth` passage of `rank` through `point`."""

    scenario: str
    point: str
    rank: int
    nth: int
    action: str

    @property
    def fault(self) -> str:
        """As ORCH_FAULT has it."""
        action = "stop" if self.action == "pause" else self.action
        return f"{self.point}[rank={self.rank}]:{action}@{self.nth}"


def workshop() -> Path:
    """Return a new directory, in memory where there is one."""
    place = MEMORY if os.access(MEMORY, os.W_OK) else None
    return Path(tempfile.mkdtemp(prefix="orch-sweep-", dir=place))


def templates(directory: Path) -> dict[str, Path]:
    """Make the stores that cases begin with.

    "plain": three checkpoints, what a killed save left in staging, and a killed deletion in the
    trash. "damaged": the same, and the newest has a flipped bit.
    """
    plain = directory / "plain" / "checkpoints"
    Checkpoints(plain, run=RUN)  # claims epoch 1
    store = open_store(plain)
    for step in (10, 20, 30):
        save(store, step=step)
    stage_rank(store, step=STEP, epoch=1, rank=0)
    shutil.copytree(plain / OLDEST, plain / "trash" / f"{OLDEST}.0badcafe")
    damaged = Path(shutil.copytree(plain, directory / "damaged" / "checkpoints"))
    victim = damaged / PREVIOUS / "rank-00001" / "model.safetensors"
    data = bytearray(victim.read_bytes())
    data[4000] ^= 4
    victim.write_bytes(data)
    return {"plain": plain, "damaged": damaged}


def passages(template: Path) -> Iterator[tuple[str, int, int]]:
    """Yield (point, rank, nth) of every passage of an attempt without a fault."""
    place = workshop()
    try:
        root = Path(shutil.copytree(template, place / "checkpoints"))
        processes = run(root, step=STEP, log=place / "hits")
        assert [p.exit_code for p in processes] == [0, 0], [p.said for p in processes]
        for rank in range(RANKS):
            for point, count in Counter((place / f"hits.{rank}").read_text().split()).items():
                yield from ((point, rank, nth) for nth in range(1, count + 1))
    finally:
        shutil.rmtree(place)


def all_cases(stores: dict[str, Path]) -> list[Case]:
    """Return every case. Raises AssertionError if a fault point of the package is never passed."""
    cases = [
        Case(scenario=scenario, point=point, rank=rank, nth=nth, action=action)
        for scenario, template in stores.items()
        for point, rank, nth in passages(template)
        for action in ACTIONS
    ]
    missed = set(FAULT_POINTS) - {case.point for case in cases}
    assert not missed, f"never passed: {sorted(missed)}"
    return cases


def sample(cases: list[Case], count: int, seed: int, *, every_point: bool) -> list[Case]:
    """Return a seeded sample; with `every_point` at least one of each."""
    source = random.Random(seed)
    shuffled = source.sample(cases, len(cases))
    if not every_point:
        return shuffled[:count]
    firsts = {case.point: case for case in shuffled}.values()
    rest = [case for case in shuffled if case not in firsts]
    return [*firsts, *rest][: max(count, len(firsts))]


def judge(template: Path, case: Case) -> list[str] | None:
    """Run one case in a copy of the template; return what is wrong, None if its fault was not met.

    The ranks are two processes with threads: not every attempt makes the same number of passages.
    """
    for _ in range(TRIES):
        place = workshop()
        quiet_alarm()
        try:
            root = Path(shutil.copytree(template, place / "checkpoints"))
            found = _judge(root, case, place / "hits")
        finally:
            shutil.rmtree(place)
        if found is not None:
            return found
    return None


def _judge(root: Path, case: Case, log: Path) -> list[str] | None:
    damaged = [PREVIOUS] if case.scenario == "damaged" else []
    processes = start(root, step=STEP, fault=case.fault, log=log)
    others: list[Process] = []
    if case.action in ("stop", "pause"):
        others = _stopped(root, case, processes)
    for process in processes:
        process.wait()
    killed = processes[case.rank].exit_code == -signal.SIGKILL
    passed = Path(f"{log}.{case.rank}").read_text().split().count(case.point)
    met = {"kill": killed, "stop": killed, "pause": bool(others)}.get(
        case.action, passed >= case.nth
    )
    if not met:
        return None
    found = [word for p in (*processes, *others) for word in p.said if word.startswith("bug ")]
    if case.action == "errno=EIO" and case.point in UNREADABLE:
        # A file that cannot be read is evidence: put away, the one before it is used.
        newest_good = newest({OLDER, PREVIOUS} - set(damaged))
        damaged += [newest_good] if newest_good in quarantined(root) else []
    allowed = _allowed(root, processes, others, damaged)
    found += problems(root, allowed=allowed, damaged=damaged, at_least=min(2, 3 - len(damaged)))
    if not found:
        found += [f"afterwards: {problem}" for problem in _goes_on(root, damaged)]
    return found


def _stopped(root: Path, case: Case, processes: list[Process]) -> list[Process]:
    """Let a new attempt do all its work while the victim is stopped; then kill or wake it."""
    victim, peer = processes[case.rank], processes[1 - case.rank]
    if not victim.wait(os.WUNTRACED):
        return []
    paused = case.action == "pause"
    peer.signal(signal.SIGSTOP if paused else PEER_LOST)
    if not paused:
        peer.wait()
    successor = run(root, step=SUCCESSOR_STEP)
    before = set(open_store(root).candidates())
    victim.signal(signal.SIGCONT if paused else signal.SIGKILL)
    peer.signal(signal.SIGCONT)
    for process in processes:
        process.wait()
    mine = saved(successor)
    if mine is None:
        successor[0].said.append(f"bug the successor could not save: {successor[0].said}")
    appeared = set(open_store(root).candidates()) - before
    late = [name for name in appeared if mine and newest([name, mine]) == mine]
    if late:
        successor[0].said.append(f"bug an old attempt committed {late} after {mine}")
    if late and FENCED in [p.exit_code for p in processes]:
        successor[0].said.append("bug it was told that it is fenced, and committed")
    return successor


def _allowed(
    root: Path, processes: list[Process], others: list[Process], damaged: list[str]
) -> set[str]:
    """Return what may be given: the newest that was said to be saved, or what came after it."""
    told = {name for name in (saved(processes), saved(others)) if name}
    least = newest(told or {OLDEST, OLDER, PREVIOUS} - set(damaged))
    # Said by nobody and there: a rename just before the end. It must be whole, and newer.
    unsaid = {name for name in open_store(root).candidates() if newest([name, least]) == name}
    return {least, *(unsaid - set(damaged))}


def _goes_on(root: Path, damaged: list[str]) -> list[str]:
    """Run a further attempt: it must save, keep two, and leave no litter."""
    processes = run(root, step=NEXT_STEP)
    name = saved(processes)
    if name is None:
        return [f"the next attempt could not save: {[p.said for p in processes]}"]
    found = problems(root, allowed=[name], damaged=damaged)
    if len(open_store(root).candidates()) != 2:
        found.append(f"it keeps {open_store(root).candidates()}")
    for place in ("staging", "trash"):
        left = [path.name for path in (root / place).iterdir()]
        found += [f"{place} still has {left}"] if left else []
    return found


def main() -> int:
    """Run the sweep; print its counts as JSON; return 1 if anything was violated."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sample", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="part of: SCENARIO FAULT ACTION")
    parser.add_argument("--plant", choices=sorted(planted.BUGS))
    options = parser.parse_args()
    place = workshop()
    try:
        stores = templates(place)
        cases = all_cases(stores)
        total = len(cases)
        cases = [
            case for case in cases if options.only in f"{case.scenario} {case.fault} {case.action}"
        ]
        if options.sample:
            cases = sample(cases, options.sample, options.seed, every_point=not options.only)
        if options.plant:
            planted.BUGS[options.plant]()
        verdicts = {case: judge(stores[case.scenario], case) for case in cases}
    finally:
        shutil.rmtree(place)
    violations = [
        f"{case.scenario} {case.fault}: {problem}"
        for case, found in verdicts.items()
        for problem in found or ()
    ]
    met = [case for case, found in verdicts.items() if found is not None]
    missed = {_kind(case) for case in cases} - {_kind(case) for case in met}
    if not options.plant:
        violations += [f"never met: {kind}" for kind in sorted(missed)]
    said = {
        "cases": len(met),
        "of": total,
        "not_met": len(cases) - len(met),
        "points": len({case.point for case in met}),
        "by_action": dict(Counter(case.action for case in met)),
        "by_rank": dict(Counter(case.rank for case in met)),
        "violations": len(violations),
    }
    print("\n".join(violations), file=sys.stderr)
    print(json.dumps(said))
    return 1 if violations else 0


def _kind(case: Case) -> str:
    return f"{case.point}[rank={case.rank}]:{case.action}"


if __name__ == "__main__":
    sys.exit(main())
