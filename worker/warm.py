"""Tokenise a matrix's data before its jobs ask for them.

    python -P -m worker.warm --home STATE < lines      # {"spec": spec.json, "site": …}, one a line

Jobs that have data and tokenizer in common share one file. Prints a JSON object: how many data sets
were `made` now, `found`, too `small` to be kept, and `left` to the jobs, whose code reads them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from jobs.contract.records import WorkerSite
from jobs.spec import JobSpec, Semantic, canonical_json
from worker.data import build_data
from worker.failures import Misconfigured
from worker.token_cache import TokenCache


def warm(lines: TextIO, home: Path) -> Counter[str]:
    """Tokenise the data of each job once; return what became of them. Raises `Misconfigured`."""
    found: Counter[str] = Counter()
    seen: set[bytes] = set()
    for line in lines:
        asked = json.loads(line)
        spec = JobSpec.model_validate_json(json.dumps(asked["spec"]))
        semantic = spec.semantic
        if not isinstance(semantic, Semantic):
            continue
        parts = {"family", "path", "revision", "content_digest", "tokenizer"}
        same = [semantic.task.model_dump(mode="json"), spec.run.base_dir]
        key = canonical_json([semantic.model.model_dump(mode="json", include=parts), *same])
        if key in seen:
            continue
        seen.add(key)
        if semantic.task.code is not None:
            found["left"] += 1
            continue
        cache = TokenCache(home / "tokens")
        build_data(semantic, spec.run, WorkerSite.model_validate(asked["site"]), cache=cache)
        found[cache.outcome] += 1
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Warm the cache; print one JSON line. Exit code 1 with one line on stderr when it cannot."""
    parser = argparse.ArgumentParser(prog="python -P -m worker.warm")
    parser.add_argument("--home", type=Path, required=True)
    options = parser.parse_args(arguments)
    try:
        found = warm(sys.stdin, options.home)
    except (Misconfigured, OSError) as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    print(json.dumps(dict(found)))  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
