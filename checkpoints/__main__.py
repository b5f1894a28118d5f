"""`python -m checkpoints ls|verify DIR`: look at a job's checkpoints without a worker.

DIR is a job's directory, its checkpoints/, or one checkpoint. `ls` checks manifests, names and
sizes; `verify` reads every byte. Exit code: 0 all right, 1 something is broken, 2 usage.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from checkpoints.inspection import checkpoint_paths, deep, findings, line, quarantined, shallow


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m checkpoints", description=__doc__)
    parser.add_argument("verb", choices=("ls", "verify"))
    parser.add_argument("directory", type=Path, metavar="DIR")
    options = parser.parse_args(arguments)
    directory: Path = options.directory
    try:
        paths = checkpoint_paths(directory.absolute())
    except (FileNotFoundError, NotADirectoryError) as error:
        print(f"{directory}: {error.strerror}; give a job's directory", file=sys.stderr)  # noqa: T201
        return 2
    broken = 0
    for finding in findings(paths, deep if options.verb == "verify" else shallow):
        broken += finding.surveyed is None
        print(line(finding))  # noqa: T201
    if not paths:
        print("no checkpoints")  # noqa: T201
    for cell in quarantined(directory):
        print(f"quarantine/{cell.name}: {cell.reason}")  # noqa: T201
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
