"""Every write, fsync, rename, link, unlink and mkdir of an attempt, failing or the last one.

    python -m tests.crash.system_calls [--sample N --seed S]

As `crash_sweep`, but from the kernel's side: strace is attached to one rank, and at its n-th call
of one kind the call fails (EIO, ENOSPC) or the rank is killed before it. No fault point is needed,
so what has none is tried as well. Needs strace.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tests.crash.crash_sweep import (
    NEXT_STEP,
    PREVIOUS,
    STEP,
    templates,
    workshop,
)
from tests.crash.invariants import newest, problems
from tests.crash.two_ranks import RANKS, Process, open_store, quiet_alarm, run, saved, start

CALLS = ("write", "fsync", "rename", "link", "unlink", "unlinkat", "mkdir", "rmdir")
SPELLINGS = {"link": "link,linkat", "rename": "rename,renameat,renameat2", "mkdir": "mkdir,mkdirat"}
EFFECTS = ("signal=SIGKILL", "error=EIO", "error=ENOSPC")


@dataclass(frozen=True, kw_only=True)
class Injection:
    """At the `nth` call (of any spelling) of `rank`."""

    call: str
    nth: int
    rank: int
    effect: str


def traced(
    root: Path, *, rank: int, options: list[str], trace: Path, step: int = STEP
) -> list[Process]:
    """Run an attempt, one rank of it under strace from its first instruction on."""
    stop = lambda own: os.kill(os.getpid(), signal.SIGSTOP) if own == rank else None  # noqa: E731
    processes = start(root, step=step, before=stop)
    victim = processes[rank]
    assert victim.wait(os.WUNTRACED), "it did not wait for its tracer"
    command = ["strace", "-f", "-y", "-o", str(trace), *options, "-p", str(victim.pid)]
    with tempfile.TemporaryFile() as said:
        tracer = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=said)
        assert tracer.stderr is not None
        line = tracer.stderr.readline()
        if b"attached" not in line:
            for process in processes:
                process.signal(signal.SIGKILL)
            raise RuntimeError(f"strace: {line.decode()}")
        victim.signal(signal.SIGCONT)
        for process in processes:
            process.wait()
        tracer.stderr.read()
        tracer.wait()
    return processes


def all_injections(template: Path) -> list[Injection]:
    """Return every call of an undisturbed attempt, with every effect."""
    found = []
    for rank in range(RANKS):
        place = workshop()
        try:
            root = Path(shutil.copytree(template, place / "checkpoints"))
            names = ",".join(SPELLINGS.get(call, call) for call in CALLS)
            options = ["-e", f"trace={names}"]
            processes = traced(root, rank=rank, options=options, trace=place / "trace")
            assert [p.exit_code for p in processes] == [0, 0], [p.said for p in processes]
            lines = (place / "trace").read_text().splitlines()
        finally:
            shutil.rmtree(place)
        for call in CALLS:
            spellings = SPELLINGS.get(call, call).replace(",", "|")
            count = sum(bool(re.match(rf"\d+ +({spellings})\(", line)) for line in lines)
            found += [
                Injection(call=call, nth=nth, rank=rank, effect=effect)
                for nth in range(1, count + 1)
                for effect in EFFECTS
            ]
    return found


def judge(template: Path, injection: Injection) -> list[str] | None:
    """Run an attempt with it; return what is wrong afterwards, None if the call was not made."""
    place = workshop()
    quiet_alarm()
    try:
        root = Path(shutil.copytree(template, place / "checkpoints"))
        names = SPELLINGS.get(injection.call, injection.call)
        inject = f"inject={names}:{injection.effect}:when={injection.nth}"
        trace = place / "trace"
        options = ["-e", f"trace={names}", "-e", inject]
        processes = traced(root, rank=injection.rank, options=options, trace=trace)
        victim = processes[injection.rank]
        if victim.exit_code != -signal.SIGKILL and "INJECTED" not in trace.read_text():
            return None
        told = saved(processes)
        least = told or PREVIOUS
        allowed = {n for n in open_store(root).candidates() if newest([n, least]) == n}
        found = [word for p in processes for word in p.said if word.startswith("bug ")]
        found += problems(root, allowed={least, *allowed})
        return found or [f"afterwards: {problem}" for problem in _goes_on(root)]
    finally:
        shutil.rmtree(place)


def _goes_on(root: Path) -> list[str]:
    processes = run(root, step=NEXT_STEP)
    name = saved(processes)
    if name is None:
        return [f"the next attempt could not save: {[p.said for p in processes]}"]
    return problems(root, allowed=[name])


def main() -> int:
    """Run the sweep; print its counts as JSON; return 1 if anything was violated."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sample", type=int)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if shutil.which("strace") is None:
        print("strace is missing: apt-get install strace", file=sys.stderr)
        return 2
    place = workshop()
    try:
        template = templates(place)["plain"]
        injections = all_injections(template)
        total = len(injections)
        if options.sample:
            injections = random.Random(options.seed).sample(injections, options.sample)
        verdicts = {injection: judge(template, injection) for injection in injections}
    finally:
        shutil.rmtree(place)
    violations = [f"{i}: {problem}" for i, found in verdicts.items() for problem in found or ()]
    made = [injection for injection, found in verdicts.items() if found is not None]
    said = {
        "injections": len(made),
        "of": total,
        "not_made": len(injections) - len(made),
        "by_call": dict(Counter(injection.call for injection in made)),
        "by_effect": dict(Counter(injection.effect for injection in made)),
        "by_rank": dict(Counter(injection.rank for injection in made)),
        "violations": len(violations),
    }
    print("\n".join(violations), file=sys.stderr)
    print(json.dumps(said))
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
