"""The server process: `python -P -m worker.forkserver DIRECTORY --allow MODULE:FUNCTION …`.

It lives as long as its standard input is open: the owner holds the other end.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from worker.forkserver.protocol import RUN_RANK
from worker.forkserver.server import Server
from worker.forkserver.warm import NotForkable, warm_up


def main(argv: list[str]) -> int:
    """Warm up, say `ready` on standard output, serve until standard input closes."""
    parser = argparse.ArgumentParser(prog="worker.forkserver")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--allow", action="append", default=[RUN_RANK])
    arguments = parser.parse_args(argv)
    try:
        warm_up()
    except NotForkable as problem:
        print(problem, file=sys.stderr)  # noqa: T201 - its log
        return 1
    with Server(arguments.directory, allowed=frozenset(arguments.allow)) as server:
        print("ready", flush=True)  # noqa: T201 - the owner waits for this line
        server.serve()
    shutil.rmtree(arguments.directory, ignore_errors=True)  # its owner may have died
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
