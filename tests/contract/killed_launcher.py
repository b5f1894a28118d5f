"""A launcher of one task whose rank, or itself, gets SIGKILL: `KILLER PLACE` say by whom.

kernel      the count below the fake root PLACE grows, then the rank is killed
somebody    the rank is killed, and the count stands still
launcher    as kernel, and the launcher is killed, too
memory      the real kernel: PLACE is a cgroup with a limit, and the rank uses it up
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from durable.oom_counter import OomCounter
from worker import launch

KILLER, PLACE = sys.argv[1], Path(sys.argv[2])
COUNT = PLACE / "cg/job/memory.events"
_GROW = f"import os, pathlib; pathlib.Path({str(COUNT)!r}).write_text('oom 1\\noom_kill 4\\n')\n"
PROGRAMS = {
    "kernel": f"{_GROW}os.kill(os.getpid(), 9)",
    "somebody": "import os; os.kill(os.getpid(), 9)",
    "launcher": f"{_GROW}os.kill(os.getppid(), 9); os.kill(os.getpid(), 9)",
    "memory": "eaten = []\nwhile True: eaten.append(bytearray(1 << 20))",
}


class OneProgram:
    """A spawner whose ranks run the program."""

    def spawn(self, arguments: Sequence[str], env: Mapping[str, str]) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-S", "-c", PROGRAMS[KILLER]], env=dict(env))


class FakeHostCounter(OomCounter):
    """The counter of the fake host."""

    @classmethod
    def own(cls, root: Path = PLACE) -> OomCounter | None:
        return OomCounter.own(root)


if KILLER == "memory":
    (PLACE / "cgroup.procs").write_text(str(os.getpid()))
else:
    launch.OomCounter = FakeHostCounter  # type: ignore[misc]
launch.choose_spawner = lambda env: OneProgram()  # type: ignore[assignment]
sys.exit(launch.main(sys.argv[3:]))
