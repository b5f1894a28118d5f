"""How `orch status` grows with the store: time against its own start on one job, and peak memory.

The sizes take turns, so that other work on the machine hits all alike; medians are compared.
stdout is a terminal, where status is a summary with the rows that need attention.
"""

from __future__ import annotations

import os
import pty
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # -P leaves it out

from startup import ORCH, fill  # type: ignore[import-not-found]

SIZES = (1, 1_000, 10_000, 100_000)
RATIO_LIMIT, MEMORY_LIMIT_MB = 3.0, 150.0


def run(words: list[str], home: Path) -> tuple[float, float]:
    """Run one command on a terminal; return its wall seconds and its peak memory in MB."""
    master, slave = pty.openpty()
    environment = {**os.environ, "ORCH_HOME": str(home), "TERM": "xterm", "COLUMNS": "120"}
    start = time.perf_counter()
    child = os.fork()
    if child == 0:
        for number in (0, 1, 2):
            os.dup2(slave, number)
        os.execve(sys.executable, [*ORCH, *words], environment)
    os.close(slave)
    reader = threading.Thread(target=drain, args=(master,))
    reader.start()
    _, status, usage = os.wait4(child, 0)
    seconds = time.perf_counter() - start
    reader.join()
    os.close(master)
    if status != 0:
        raise SystemExit(f"orch {' '.join(words)} left with {os.waitstatus_to_exitcode(status)}")
    return seconds, usage.ru_maxrss / 1024


def drain(master: int) -> None:
    try:
        while os.read(master, 1 << 16):
            pass
    except OSError:  # the other side is closed
        return


def main(runs: int) -> int:
    """Print the growth; return 1 when the summary breaks a promise."""
    broken = False
    with tempfile.TemporaryDirectory() as folder:
        homes = {size: Path(folder) / str(size) for size in SIZES}
        for size, home in homes.items():
            fill(home, size)
        for words in (["status"], ["status", "--json"]):
            for home in homes.values():
                run(words, home)  # byte code and file cache
            figures = {
                size: [run(words, home) for _ in range(runs)] for size, home in homes.items()
            }
            bare = statistics.median(seconds for seconds, _ in figures[1])
            for size, measured in figures.items():
                seconds = statistics.median(seconds for seconds, _ in measured)
                memory = max(memory for _, memory in measured)
                ratio = seconds / bare
                print(
                    f"orch {' '.join(words)}, {size:>7,} jobs: {seconds:.3f} s,"
                    f" {ratio:.2f} times one job's, peak {memory:.0f} MB"
                )
                if words == ["status"]:
                    broken |= ratio > RATIO_LIMIT or memory > MEMORY_LIMIT_MB
    return int(broken)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
