"""Cut the power after every call of an attempt: nothing that was said to be saved may be lost.

    python -m tests.crash.power_cut [--scenario NAME] [--each N] [--plant BUG | --mutate]

An attempt of two ranks is recorded call by call (strace). After each call, every state that the
filesystem may then be in is made (`filesystem`: what was not fsynced is there, gone, or torn), and
must give the newest checkpoint that a user was told of, or one after it, whole. `--each N`: only
every N-th call, and those at which it was said. `--plant BUG`: the ranks leave out fsyncs of
one kind, which must be found. `--mutate`: leave out each single fsync in turn, and say which of
them nobody would have missed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import stat
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.crash.crash_sweep import NEXT_STEP, OLDER, PREVIOUS, STEP, templates, workshop
from tests.crash.invariants import newest, problems
from tests.crash.power_cut.filesystem import Disk, State
from tests.crash.power_cut.recording import Event, record
from tests.crash.two_ranks import open_store, quiet_alarm, run, saved

GO_ON_EVERY = 40  # states
ALL = 1 << 30


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One attempt after another, each with its fault; `before` is what is safe at first."""

    template: str
    faults: tuple[str, ...] = ("",)
    before: str | None = PREVIOUS
    damaged: tuple[str, ...] = ()


SCENARIOS = {
    "save": Scenario(template="plain"),
    "first": Scenario(template="empty", before=None),
    # Killed between a mkdir and its fsync: what the next attempt finds there is not safe yet.
    "first-again": Scenario(
        template="empty", before=None, faults=("files.before_fsync_dir[rank=0]:kill@1", "")
    ),
    "failed-and-again": Scenario(
        template="plain", faults=("files.before_fsync[rank=0]:errno=EIO@4",)
    ),
    "killed-in-commit": Scenario(
        template="plain", faults=("publish_dir.after_rename[rank=0]:kill@1", "")
    ),
    "killed-in-prune": Scenario(template="plain", faults=("prune.mid_delete[rank=0]:kill@2", "")),
    "quarantine": Scenario(template="damaged", before=OLDER, damaged=(PREVIOUS,)),
}


@dataclass(kw_only=True)
class Found:
    """What a run through one recording came to."""

    calls: int = 0
    states: int = 0
    went_on: int = 0
    violations: list[str] = field(default_factory=list)


def recorded(scenario: Scenario, stores: dict[str, Path], base: Path) -> list[Event]:
    """Make the scenario's disk at `base` and return what its attempts did to it."""
    if scenario.template in stores:
        shutil.copytree(stores[scenario.template], base / "checkpoints")
    else:
        base.mkdir(exist_ok=True)
    events: list[Event] = []
    root, trace = base / "checkpoints", base.with_suffix(".trace")
    keep = base.with_suffix(".before")
    shutil.copytree(base, keep)
    for fault in scenario.faults:
        more, processes = record(root, trace=trace, step=STEP, fault=fault)
        ended = {process.exit_code for process in processes}
        assert ended == {0} or -signal.SIGKILL in ended, [p.said for p in processes]
        events += more
    shutil.rmtree(base)
    keep.rename(base)
    return events


def told(events: Sequence[Event]) -> set[str]:
    """Return the names of checkpoints that users were told are saved."""
    words = (event.data.decode().split() for event in events if event.kind == "say")
    return {word[1] for word in words if word[:1] == ["saved"]}


def cut(
    scenario: Scenario,
    events: Sequence[Event],
    base: Path,
    *,
    each: int,
    since: int = 0,
    enough: int = ALL,
) -> Found:
    """Cut the power after every `each`-th event from `since` on; stop after `enough` violations."""
    source, disk, seen = random.Random(0), Disk(base), set[tuple[State, str]]()
    found = Found(calls=len(events))
    for number, event in enumerate(events):
        disk.apply(event)
        if number < since or (number % each and not event.data.startswith(b"saved ")):
            continue
        names = told(events[: number + 1])
        least = newest(names) if names else scenario.before
        for state in disk.states(source):
            if (state, least or "") in seen:
                continue
            seen.add((state, least or ""))
            go_on = len(seen) % GO_ON_EVERY == 0
            found.went_on += go_on
            found.violations += [
                f"cut after call {number} ({event}): {problem}"
                for problem in _problems(scenario, state, least, go_on=go_on)
            ]
            if len(found.violations) >= enough:
                return found
    found.states = len(seen)
    return found


def _problems(scenario: Scenario, state: State, least: str | None, *, go_on: bool) -> Iterator[str]:
    place = workshop()
    quiet_alarm()
    try:
        state.write(place)
        root = place / "checkpoints"
        names = open_store(root).candidates()
        allowed = {name for name in names if not least or newest([name, least]) == name}
        at_least = min(2, 3 - len(scenario.damaged)) if scenario.before else int(bool(least))
        rules = {"damaged": scenario.damaged, "at_least": at_least}
        yield from problems(root, allowed=allowed - set(scenario.damaged), **rules)
        if go_on:
            name = saved(processes := run(root, step=NEXT_STEP))
            if name is None:
                yield f"the next attempt could not save: {[p.said for p in processes]}"
            else:
                rules["at_least"] = max(1, at_least)
                yield from (f"afterwards: {p}" for p in problems(root, allowed=[name], **rules))
    finally:
        shutil.rmtree(place)


def _without(kind: Callable[[int], bool]) -> Callable[[], None]:
    def plant() -> None:
        real = os.fsync

        def fsync(descriptor: int) -> None:
            if not kind(os.fstat(descriptor).st_mode):
                real(descriptor)

        os.fsync = fsync  # type: ignore[assignment]

    return plant


BUGS: dict[str, Callable[[], None]] = {
    "no_fsync_of_files": _without(stat.S_ISREG),
    "no_fsync_of_directories": _without(stat.S_ISDIR),
}


def mutate(
    scenario: Scenario, events: list[Event], base: Path, *, each: int
) -> tuple[int, list[str]]:
    """Leave out each fsync in turn; return how many were missed by the check, and the others."""
    needed, spare = 0, []
    for number, event in enumerate(events):
        if event.kind == "fsync":
            rest = events[:number] + events[number + 1 :]
            if cut(scenario, rest, base, each=each, since=number, enough=1).violations:
                needed += 1
            else:
                spare.append(event.path.removeprefix(str(base)))
    return needed, spare


def main() -> int:
    """Run the scenarios; print their counts as JSON; return 1 if anything was violated."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenario", choices=sorted(SCENARIOS), action="append")
    parser.add_argument("--each", type=int, default=1)
    parser.add_argument("--plant", choices=sorted(BUGS))
    parser.add_argument("--mutate", action="store_true")
    options = parser.parse_args()
    if options.plant:
        BUGS[options.plant]()
    place = workshop()
    violations = 0
    try:
        stores = templates(place)
        for name in options.scenario or SCENARIOS:
            base = place / name
            events = recorded(SCENARIOS[name], stores, base)
            if options.mutate:
                needed, spare = mutate(SCENARIOS[name], events, base, each=options.each)
                said = {"scenario": name, "needed_fsyncs": needed, "spare": dict(Counter(spare))}
            else:
                enough = 1 if options.plant else ALL
                found = cut(SCENARIOS[name], events, base, each=options.each, enough=enough)
                print("\n".join(found.violations), file=sys.stderr)
                violations += len(found.violations)
                said = {"scenario": name, **vars(found), "violations": len(found.violations)}
            print(json.dumps(said), flush=True)
    finally:
        shutil.rmtree(place)
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
