"""The seeds that each cell runs with."""

from __future__ import annotations

from jobs.matrix.findings import Findings
from jobs.names import printable
from jobs.yaml_strict import Document, KeyPath, Node

CEILING_OF_CELLS = 1_000_000


def read_seeds(
    document: Document, given: Node, path: KeyPath, findings: Findings
) -> tuple[int, ...]:
    """Return the seeds: `[1, 5]` are those, `3` are 0, 1, 2."""
    if isinstance(given, int) and not isinstance(given, bool) and 1 <= given <= CEILING_OF_CELLS:
        return tuple(range(given))
    if not isinstance(given, list):
        fix = "write a list such as [1, 2, 3], or how many (3 means 0, 1, 2)"
        findings.add(document.problem(path, f"must be a list, not {printable(given)}", fix))
        return (0,)
    if not given:
        findings.add(document.problem(path, "is an empty list", "write at least one seed"))
    first: dict[int, int] = {}
    for index, seed in enumerate(given):
        place = (*path, index)
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            message = f"must be a whole number of at least 0, not {printable(seed)}"
            findings.add(document.problem(place, message, "write 0, 1, 2, …"))
        elif seed in first:
            findings.add(document.problem(place, f"seed {seed} stands twice", "remove one of them"))
        else:
            first[seed] = index
    return tuple(first) or (0,)
