"""Size limits of the code, checked by `scripts/check`: `python -m tests.size_limits`.

A module has at most 400 lines (the median of the packages at most 150), a function at most 60.
"""

from __future__ import annotations

import ast
import statistics
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = ("durable", "jobs", "checkpoints", "orchestrator", "worker")
MAX_MODULE, MAX_MEDIAN, MAX_FUNCTION = 400, 150, 60


def long_functions(path: Path, text: str) -> list[str]:
    """Return a line for each function of more than `MAX_FUNCTION` lines."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > MAX_FUNCTION:
                found.append(f"{path}:{node.lineno}: {node.name} has {length} lines")
    return found


def main() -> int:
    """Print what is too long; return 1 if anything is."""
    problems, sizes = [], []
    for package in (*PACKAGES, "tests"):
        for path in sorted((ROOT / package).rglob("*.py")):
            text = path.read_text()
            lines = text.count("\n")
            relative = path.relative_to(ROOT)
            if package != "tests" and lines > 10:
                sizes.append(lines)
            if lines > MAX_MODULE:
                problems.append(f"{relative}: {lines} lines")
            problems += long_functions(relative, text)
    median = statistics.median(sizes)
    if median > MAX_MEDIAN:
        problems.append(f"the median module has {median:.0f} lines")
    print("\n".join(problems) or f"sizes: {len(sizes)} modules, median {median:.0f} lines")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
